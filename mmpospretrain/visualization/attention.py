"""Pictures of attention and of alike places.

Figures 8, 10 and 11 of MP3, 5 and 6 of PosField.

Letters: L layers, H heads, R rows and C columns of patches.
"""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ..evaluation.attention import HeadStatistics, PositionCorrelation
from ..evaluation.attention_diversity import (
    AttentionDiversity,
    Point,
    QueryAttention,
)
from .wording import plain

MAP, PAGE = 0.85, 22.0  # side of a small map, width of a picture at most; inches


def plot_relative_maps(
    models: Mapping[str, HeadStatistics],
    layers: Sequence[int] | None = None,
    most_local: int | None = None,
) -> Figure:
    """Attention by offset: a column per layer, a row per head, the most local on top.

    Each map has a scale of its own, from black, which is none, to its largest value;
    above it the number of the head, from 1, and its entropy.

    Args:
        models: By name. All heads of each, sorted by its own entropy (Fig. 11).
        layers: Their numbers, from 1; by default all.
        most_local: Only so many heads of each layer (Fig. 8): those of the least
            entropy in the first model, and the same heads of the others.

    Raises:
        ValueError: If there is no such layer, not so many heads, or heads of models of
            different shapes are to be compared.
    """
    check_heads({k: v.entropy.shape for k, v in models.items()}, layers, most_local)
    first, *_ = models.values()
    orders = {}
    for name, statistics in models.items():
        entropy = (statistics if most_local is None else first).entropy
        orders[name] = {
            layer: entropy[layer - 1].argsort(kind='stable')[:most_local]
            for layer in layers or range(1, len(entropy) + 1)
        }

    width = max(MAP * max(map(len, orders.values())) + 0.5, 2.6)
    height = max(len(heads) for order in orders.values() for heads in order.values())
    columns = min(len(models), max(1, int(PAGE / width)))
    rows = math.ceil(len(models) / columns)
    figure = Figure(
        figsize=(columns * width, rows * ((MAP + 0.2) * height + 0.8)),
        layout='constrained',
    )
    panels = figure.subfigures(rows, columns, squeeze=False).flat
    for panel, (name, statistics) in zip(panels, models.items(), strict=False):
        title = fill(name, int(11 * width))
        largest = statistics.summary()['largest_entropy']
        facts = f'{statistics.num_images} images, entropy at most {largest:.2f}'
        panel.suptitle(f'{plain(title)}\n{facts}', fontsize=10)
        order = orders[name]
        (height,) = {len(heads) for heads in order.values()}
        axes = panel.subplots(height, len(order), squeeze=False)
        for column, (layer, heads) in zip(axes.T, order.items(), strict=True):
            for axis, head in zip(column, heads, strict=True):
                maps = statistics.relative[layer - 1]
                axis.imshow(maps[head], cmap='inferno', vmin=0)
                entropy = statistics.entropy[layer - 1, head]
                axis.set_title(f'head {head + 1}: {entropy:.2f}', fontsize=7, pad=2)
                axis.set(xticks=[], yticks=[])
            top = f'layer {layer}\n{column[0].get_title()}'
            column[0].set_title(top, fontsize=7, pad=2, linespacing=1.4)
    return figure


def check_heads(
    shapes: Mapping[str, tuple[int, int]],
    layers: Sequence[int] | None,
    most_local: int | None,
) -> None:
    """Check what :func:`plot_relative_maps` is asked for, before anything is measured.

    Args:
        shapes: Layers and heads of each model.
        layers: As there.
        most_local: As there.

    Raises:
        ValueError: As there.
    """
    first, *_ = shapes
    for name, (number, heads) in shapes.items():
        for layer in layers or ():
            if not 1 <= layer <= number:
                raise ValueError(f'{name} has layers 1 to {number}, got {layer}')
        if most_local is None:
            continue
        if not 1 <= most_local <= heads:
            raise ValueError(f'{name} has {heads} heads a layer, got {most_local}')
        if shapes[name] != shapes[first]:
            raise ValueError(
                f'layers and heads of {first} are {shapes[first]}, of {name} '
                f'{shapes[name]}: the same heads are in models of one shape alone'
            )


def plot_position_correlation(models: Mapping[str, PositionCorrelation]) -> Figure:
    """Fig. 10: correlation within images on the left, across images on the right.

    A small map for each place, where the place is: how much tokens at all places are
    like its own. One scale for both; the place itself, which is 1 within an image, is
    left out of it.

    Args:
        models: By name; a row for each.
    """
    figure = Figure(figsize=(8.6, 4.1 * len(models) + 0.1), layout='constrained')
    figure.get_layout_engine().set(wspace=0.04)
    panels = figure.subfigures(len(models), 1, squeeze=False).flat
    for panel, (name, correlation) in zip(panels, models.items(), strict=True):
        summary = correlation.summary()
        num = math.prod(correlation.within.shape[:2])
        others = correlation.within.reshape(num, num)[~np.eye(num, dtype=bool)]
        values = np.concatenate((others, correlation.across.ravel()))
        title = f'{plain(name)}, {correlation.num_images} images'
        panel.suptitle(title, fontsize=10)
        axes = panel.subplots(1, 2)
        for axis, part in zip(axes, ('within', 'across'), strict=True):
            image = _draw_places(
                axis, getattr(correlation, part), values.min(), values.max()
            )
            mean = summary[part]['other_places']
            axis.set_title(f'{part} images (mean {mean:.2f})', fontsize=9)
        panel.colorbar(image, ax=axes, shrink=0.8, label='Pearson correlation')
    return figure


def plot_attention_diversity(models: Mapping[str, AttentionDiversity]) -> Figure:
    """Fig. 5 of PosField: NMI and mean distance of attention by layer, all models.

    Args:
        models: By name.
    """
    first, *_ = models.values()
    size = 'x'.join(map(str, reversed(first.image_size)))
    label = f'all patches alike, {first.uniform_distance:.0f} pixels'
    columns = max(1, 110 // max(len(name) + 9 for name in (*models, label)))
    lines = math.ceil((len(models) + 1) / columns)  # of the legend
    figure = Figure(figsize=(8.6, 3.4 + 0.2 * lines), layout='constrained')
    left, right = figure.subplots(1, 2)
    left.set_ylabel('normalised mutual information')
    right.set_ylabel(f'mean distance, pixels of {size}')
    for name, found in models.items():
        summary = found.summary()
        layers = range(1, len(found.nmi) + 1)
        left.plot(layers, summary['nmi'], marker='o', ms=4, label=plain(name))
        right.plot(layers, summary['distance'], marker='o', ms=4)
    style = dict(color='.4', linestyle='--', linewidth=1)
    right.axhline(first.uniform_distance, **style, label=label)
    for axis in (left, right):
        axis.set(xlabel='layer')
        axis.set_ylim(0, 1.05 * axis.dataLim.ymax)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(color='.9')
        axis.set_axisbelow(True)
        axis.spines[['top', 'right']].set_visible(False)
    figure.legend(loc='outside lower center', ncols=columns, frameon=False, fontsize=9)
    return figure


def plot_query_attention(
    models: Mapping[str, QueryAttention],
    images: Sequence[np.ndarray],
    points: Sequence[Point],
) -> Figure:
    """Fig. 6 of PosField: a row for each query, a column for each model.

    On the left the image with a red dot. Each map has a scale of its own, from black,
    which is none, to its largest value.

    Args:
        models: By name.
        images: M times (H, W, 3) uint8.
        points: Queries of each image, x and y in pixels.
    """
    rows = len(images) * len(points)
    titles = [fill(name, 25) for name in models]
    height, width = images[0].shape[:2]
    lines = max(title.count('\n') + 1 for title in titles)
    figure = Figure(
        figsize=(
            2.1 * (1 + len(models)),
            2.1 * rows * height / width + 0.3 + 0.16 * lines,
        ),
        layout='constrained',
    )
    axes = figure.subplots(rows, 1 + len(models), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_title('query', fontsize=9)
    for row, axis in enumerate(axes[:, 0]):
        image, query = divmod(row, len(points))
        axis.imshow(images[image])
        axis.plot(*points[query], 'o', color='red', ms=6, mec='white')
    columns = zip(axes.T[1:], titles, models.values(), strict=True)
    for column, title, found in columns:
        column[0].set_title(plain(title), fontsize=9)
        maps = found.query.reshape(rows, *found.query.shape[2:])
        for axis, attention in zip(column, maps, strict=True):
            axis.imshow(attention, cmap='inferno', vmin=0)
    return figure


def _draw_places(axis: Axes, maps: np.ndarray, low: float, high: float) -> AxesImage:
    """Draw maps (R, C, R, C), each in its place, with a gap of a cell between them."""
    gap = ((0, 0), (0, 0), (0, 1), (0, 1))
    tiles = np.pad(maps, gap, constant_values=np.nan).swapaxes(1, 2)  # (R, R+1, C, C+1)
    height, width = (math.prod(tiles.shape[i : i + 2]) for i in (0, 2))
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis.imshow(tiles.reshape(height, width)[:-1, :-1], vmin=low, vmax=high)
