"""Images as jigsaw puzzles: Figs. 2 and 12-15 of MP3.

Letters: N patches of the grid, V of them, p side of a patch in pixels.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..models.positions import GridSize
from ..models.selfsup.position_predictor import Reconstruction
from .positions import in_place, show

BLANK = 235  # light grey, where no patch lies
GREEN = (0, 200, 60)
WIDTH = 1.8  # of a picture in inches: 270 pixels at 150 dpi, so that outlines show


def cut_patches(image: np.ndarray, patch_size: int) -> np.ndarray:
    """Cut an image (H, W, 3) into patches (N, p, p, 3), row by row."""
    height, width, _ = image.shape
    rows, cols, p = height // patch_size, width // patch_size, patch_size
    return image.reshape(rows, p, cols, p, 3).swapaxes(1, 2).reshape(-1, p, p, 3)


def lay_patches(
    patches: np.ndarray, places: np.ndarray, grid_size: GridSize
) -> np.ndarray:
    """Lay patches on a grid.

    Args:
        patches: (V, p, p, 3) uint8.
        places: (V,) ids of the places where they go.
        grid_size: ``(rows, cols)``.

    Returns:
        (rows * p, cols * p, 3) uint8. Patches in the same place are averaged; where
        there is none, the picture is light grey.
    """
    rows, cols = grid_size
    p = patches.shape[1]
    total = np.zeros((rows * cols, p, p, 3))
    np.add.at(total, places, patches)
    count = np.bincount(places, minlength=rows * cols)[:, None, None, None]
    mean = np.where(count, np.rint(total / np.maximum(count, 1)), BLANK)
    grid = mean.astype(np.uint8).reshape(rows, cols, p, p, 3)
    return grid.swapaxes(1, 2).reshape(rows * p, cols * p, 3)


def outline_patches(patches: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Patches (V, p, p, 3), with a green frame on those that are ``chosen``, (V,)."""
    p = patches.shape[1]
    width = max(1, p // 16)
    frame = np.ones((p, p), dtype=bool)
    frame[width : p - width, width : p - width] = False
    framed = patches.copy()
    framed[chosen[:, None, None] & frame] = GREEN
    return framed


def draw_context(
    patches: np.ndarray, result: Reconstruction, grid_size: GridSize
) -> np.ndarray:
    """The context in its original places: row 1 of Fig. 2.

    Args:
        patches: (N, p, p, 3) uint8, in their original order.
        result: Of this image alone, (N,) each.
        grid_size: ``(rows, cols)``.

    Returns:
        Picture as of :func:`lay_patches`.
    """
    context = result.ids[result.context].numpy()
    return lay_patches(patches[context], context, grid_size)


def draw_input(
    patches: np.ndarray, result: Reconstruction, order: np.ndarray, grid_size: GridSize
) -> np.ndarray:
    """What the model is given, the context in green: row 2 of Fig. 2.

    ``order`` (N,) says which patch lies first, and so on to the last; only the eye
    sees it, the model knows of no order. Otherwise as :func:`draw_context`.
    """
    is_context = np.zeros(len(patches), dtype=bool)
    is_context[result.ids[result.context].numpy()] = True
    shuffled = outline_patches(patches, is_context)[order]
    return lay_patches(shuffled, np.arange(len(order)), grid_size)


def draw_solution(
    patches: np.ndarray, result: Reconstruction, grid_size: GridSize
) -> np.ndarray:
    """All patches where the model puts them: row 3 of Fig. 2.

    Otherwise as :func:`draw_context`.
    """
    return lay_patches(patches[result.ids.numpy()], result.predicted.numpy(), grid_size)


def plot_jigsaws(
    images: Sequence[np.ndarray],
    reconstructions: Sequence[Sequence[Reconstruction]],
    mask_ratios: Sequence[float],
    patch_size: int,
    orders: np.ndarray,
) -> Figure:
    """Figs. 2, 12 and 13: for each image context, input and reconstruction, by η.

    Args:
        images: (H, W, 3) uint8 each.
        reconstructions: For every image one per η, (N,) each.
        mask_ratios: η of the columns.
        patch_size: Side of a patch in pixels.
        orders: (images, N), for :func:`draw_input`.
    """
    height, width = images[0].shape[:2]
    grid_size = height // patch_size, width // patch_size
    abreast = min(2, len(images))
    lines = ceil(len(images) / abreast)
    size = WIDTH * len(mask_ratios) + 0.4, 3 * WIDTH * height / width + 0.6
    figure = Figure(figsize=(size[0] * abreast, size[1] * lines), layout='constrained')
    blocks = figure.subfigures(lines, abreast, squeeze=False).flat
    for subfigure, image, results, order in zip(
        blocks, images, reconstructions, orders, strict=False
    ):
        axes = subfigure.subplots(3, len(mask_ratios), squeeze=False)
        names = ('context', 'input', 'reconstruction')
        for axis, name in zip(axes[:, 0], names, strict=True):
            axis.set_ylabel(name, fontsize=10)
        patches = cut_patches(image, patch_size)
        for column, ratio, result in zip(axes.T, mask_ratios, results, strict=True):
            column[0].set_title(f'η = {ratio:g}', fontsize=11)
            show(column[0], draw_context(patches, result, grid_size))
            show(column[1], draw_input(patches, result, order, grid_size))
            show(column[2], draw_solution(patches, result, grid_size))
            column[2].set_xlabel(in_place(result), fontsize=8)
    return figure


def mix_patches(patches: np.ndarray | Tensor, order: np.ndarray) -> np.ndarray | Tensor:
    """Shuffle the patches of two images together, and split them in two sets.

    Args:
        patches: (2, N, …), pixels or tokens.
        order: Permutation of ``0 .. 2 N - 1``, the first image's patches first.

    Returns:
        (2, N, …): two sets of patches in random order.
    """
    flat = patches.reshape(-1, *patches.shape[2:])
    return flat[order].reshape(patches.shape)


def plot_mix(
    images: Sequence[np.ndarray],
    sets: np.ndarray,
    reconstructions: Sequence[Sequence[Reconstruction]],
    mask_ratios: Sequence[float],
) -> Figure:
    """Figs. 14 and 15: two images, and what becomes of their patches, mixed, by η.

    Args:
        images: Two of (H, W, 3) uint8.
        sets: (2, N, p, p, 3) uint8, their patches after :func:`mix_patches`.
        reconstructions: For each set one per η, (N,) each; ids count within the set.
        mask_ratios: η of the rows.
    """
    height, width = images[0].shape[:2]
    p = sets.shape[2]
    grid_size = height // p, width // p
    rows = len(mask_ratios)
    size = 6 * WIDTH + 0.4, rows * (WIDTH * height / width + 0.15) + 0.3
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(rows, 6, squeeze=False)
    titles = [f'original {k}' for k in (1, 2)]
    titles += [f'{name} {k}' for k in (1, 2) for name in ('input', 'reconstruction')]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    for axis, image in zip(axes[0, :2], images, strict=True):
        show(axis, image)
    for axis in axes[1:, :2].flat:
        axis.remove()
    for axis, ratio in zip(axes[:, 2], mask_ratios, strict=True):
        axis.set_ylabel(f'η = {ratio:g}', fontsize=10)
    order = np.arange(len(sets[0]))
    for pair, patches, results in zip(
        (axes[:, 2:4], axes[:, 4:]), sets, reconstructions, strict=True
    ):
        for (left, right), result in zip(pair, results, strict=True):
            show(left, draw_input(patches, result, order, grid_size))
            show(right, draw_solution(patches, result, grid_size))
    return figure
