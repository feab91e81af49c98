"""The patch grid: its size, its geometry, its sin-cos embedding.

A grid is ``(rows, cols)``, passed on as such and never recovered by a square root.
Patch ids are row-major, ``row * cols + col``, and do not count prefix tokens ([CLS]).

Letters: N patches of the grid, P prefix tokens, D embedding width.
"""

import torch
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import Tensor

from mmpospretrain.checks import check_choice

DISTANCES = ('euclidean', 'squared')

GridSize = tuple[int, int]


def to_grid_size(image_size: int | tuple[int, int], patch_size: int) -> GridSize:
    """Patch grid of an image.

    Args:
        image_size: Height and width in pixels; one number means a square.
        patch_size: Side of a square patch in pixels.

    Returns:
        ``(rows, cols)``.

    Raises:
        ValueError: If the patch does not divide both sides, or is not positive.
    """
    height, width = (
        (image_size, image_size) if isinstance(image_size, int) else image_size
    )
    if patch_size < 1 or min(height, width) < patch_size:
        raise ValueError(
            f'patch_size must lie in [1, {min(height, width)}] for an image of '
            f'{height}x{width} pixels, got {patch_size}'
        )
    if height % patch_size or width % patch_size:
        fits = tuple(
            max(1, round(side / patch_size)) * patch_size for side in (height, width)
        )
        raise ValueError(
            f'patch_size {patch_size} does not divide the image of {height}x{width} '
            f'pixels; the nearest size that fits is {fits[0]}x{fits[1]}'
        )
    return height // patch_size, width // patch_size


def grid_coordinates(grid_size: GridSize) -> Tensor:
    """Row and column of every patch, in patch units.

    Returns:
        Float tensor of shape (N, 2), row-major; ``[:, 0]`` is the row.
    """
    rows, cols = grid_size
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing='ij')
    return torch.stack((row, col), dim=-1).flatten(0, 1).float()  # (N, 2)


def grid_distance(grid_size: GridSize, distance: str = 'euclidean') -> Tensor:
    """Distance between any two patches, in patch units (``dist`` of DropPos, Eq. 5).

    Args:
        grid_size: ``(rows, cols)``.
        distance: ``'euclidean'`` as in the paper, or ``'squared'``, its square, as in
            the released code of DropPos.

    Returns:
        Float tensor of shape (N, N), symmetric with a zero diagonal.

    Raises:
        ValueError: On an unknown ``distance``.
    """
    check_choice('distance', distance, DISTANCES)
    coordinates = grid_coordinates(grid_size)
    # From the differences, not from `torch.cdist`: its matrix-product path loses the
    # exact zeros that one-hot targets rely on.
    squared = (coordinates[:, None] - coordinates[None]).square().sum(-1)  # (N, N)
    return squared if distance == 'squared' else squared.sqrt()


def sincos_pos_embed(
    grid_size: GridSize, embed_dims: int, num_prefix_tokens: int = 0
) -> Tensor:
    """Fixed 2-D sin-cos embedding: half the channels for the row, half for the column.

    Equals MMPretrain's on the square grids that it supports.

    Args:
        grid_size: ``(rows, cols)``.
        embed_dims: Width D, divisible by 4.
        num_prefix_tokens: P; prefix tokens get the zero vector.

    Returns:
        Float tensor of shape (1, P + N, D).

    Raises:
        ValueError: If ``embed_dims`` is not divisible by 4.
    """
    if embed_dims % 4:
        raise ValueError(
            f'a 2-D sin-cos embedding needs a width divisible by 4, got {embed_dims}'
        )
    # MMPretrain walks its grid column by column, which nobody sees on a square. Told
    # the transposed size, it walks any grid row by row.
    rows, cols = grid_size
    patches = build_2d_sincos_position_embedding((cols, rows), embed_dims)
    prefix = patches.new_zeros(1, num_prefix_tokens, embed_dims)
    return torch.cat((prefix, patches), dim=1)
