"""Pictures of positions: Figure 3 of DropPos, its table as a map, Figure 3 of MP3."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.position_curve import PositionCurve
from ..evaluation.position_table import PositionTable, count_correct
from ..models.selfsup.position_predictor import Reconstruction
from .curves import plot_curve

BLACK, WHITE = 0, 255


def draw_reconstruction(
    image: np.ndarray, reconstruction: Reconstruction, patch_size: int
) -> np.ndarray:
    """Show which patches of an image were put in place (Figure 3 of DropPos).

    Args:
        image: (H, W, 3) uint8.
        reconstruction: Of this image alone, (V,) each.
        patch_size: Side of a patch in pixels.

    Returns:
        (H, W, 3) uint8: black where masked, white where the position is predicted
        wrongly, and the image elsewhere, anchors included.
    """
    cols = image.shape[1] // patch_size
    picture = np.full_like(image, BLACK)
    ids, are_dropped, _, places = (field.tolist() for field in reconstruction)
    for patch, dropped, predicted in zip(ids, are_dropped, places, strict=True):
        top, left = (patch_size * i for i in divmod(patch, cols))
        window = np.s_[top : top + patch_size, left : left + patch_size]
        wrong = dropped and predicted != patch
        picture[window] = WHITE if wrong else image[window]
    return picture


def plot_reconstructions(
    images: Sequence[np.ndarray],
    reconstructions: Sequence[Sequence[Reconstruction]],
    mask_ratios: Sequence[float],
    patch_size: int,
) -> Figure:
    """Figure 3 of DropPos: a row per image, a column per γ, the original last.

    Args:
        images: (H, W, 3) uint8 each.
        reconstructions: For every image one per γ, (V,) each.
        mask_ratios: γ of the columns.
        patch_size: Side of a patch in pixels.
    """
    rows, columns = len(images), len(mask_ratios) + 1
    height, width = images[0].shape[:2]
    figure = Figure(
        figsize=(1.5 * columns, 1.5 * rows * height / width + 0.2 * rows + 0.2),
        layout='constrained',
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    titles = [*(f'γ = {ratio:g}' for ratio in mask_ratios), 'original']
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    for row, image, results in zip(axes, images, reconstructions, strict=True):
        show(row[-1], image)
        for axis, result in zip(row[:-1], results, strict=True):
            show(axis, draw_reconstruction(image, result, patch_size))
            axis.set_xlabel(in_place(result), fontsize=8)
    return figure


def show(axis: Axes, picture: np.ndarray) -> None:
    """Draw a picture (H, W, 3) without ticks, framed."""
    axis.imshow(picture)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_color('.7')  # or white patches would melt into the page


def in_place(result: Reconstruction) -> str:
    """How many patches are, anchors left out, to be written below a picture."""
    correct, dropped = count_correct(result)[0]
    return f'{correct} of {dropped} in place'


def plot_position_table(table: PositionTable) -> Figure:
    """Heat map of a position table, row averages beside it as in Tab. S3 of DropPos."""
    rows, columns = table.accuracy.shape
    size = (1.1 * columns + 1.6, 0.7 * rows + 1.2)
    figure = Figure(figsize=size, layout='constrained')
    axis = figure.subplots()
    axis.imshow(table.accuracy, cmap='viridis', vmin=0, vmax=100, aspect='auto')
    for (row, column), value in np.ndenumerate(table.accuracy):
        color = 'white' if value < 50 else 'black'
        axis.text(column, row, f'{value:.1f}', ha='center', va='center', color=color)
    for row, value in enumerate(table.row_averages):
        axis.text(columns - 0.3, row, f'{value:.1f}', ha='left', va='center')
    axis.text(columns - 0.3, -0.53, 'avg.', ha='left', va='bottom')
    axis.set_xticks(range(columns), [f'{ratio:g}' for ratio in table.pos_mask_ratios])
    axis.set_yticks(range(rows), [f'{ratio:g}' for ratio in table.mask_ratios])
    axis.set_xlabel('γ_pos, share of positions dropped')
    axis.set_ylabel('γ, share of patches masked')
    axis.set_title(
        f'Position accuracy, %: {table.average:.1f} on average, '
        f'chance {table.chance:.1f}',
        fontsize=11,
    )
    axis.spines[:].set_visible(False)
    return figure


def plot_position_curve(curve: PositionCurve) -> Figure:
    """Accuracy by η, and what guessing achieves (Figure 3 of MP3)."""
    figure = plot_curve(
        curve.accuracy,
        'position accuracy, %',
        (f'chance, {curve.chance:.1f} %', curve.chance),
        xlabel='η, share of patches masked',
    )
    figure.axes[0].set_ylim(bottom=0)
    return figure
