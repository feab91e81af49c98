"""Masks with a shape: boxes hide things, crosses hide rows and columns.

Boxes as in iBOT and DINOv2, crosses as in PosField (Sec. 3.3, Fig. 4). Shapes are laid
down one after the other until enough patches are masked, and the last one is cut, so
that every image has exactly as many masked as it should.

Letters: B images, R rows and C columns of patches, N = R · C, S shapes.
"""

import math

import torch
from torch import Tensor

from .grid import GridSize

SHAPES = 32  # of an image, a bit for each: far more than are ever needed
SMALLEST = 4  # patches of a box, as in BEiT's released code and DINOv2's
ASPECT = 0.3  # of a box at the least, height over width; 1 / .3 at the most


def box_mask(
    counts: Tensor, grid_size: GridSize, generator: torch.Generator | None = None
) -> Tensor:
    """Mask boxes of any size up to what is wanted.

    Args:
        counts: (B,) long, number of masked patches of each image.
        grid_size: ``(rows, cols)``.
        generator: Source of randomness.

    Returns:
        (B, N) bool, True = masked.
    """
    draws = torch.rand(4, len(counts), SHAPES, generator=generator)
    largest = counts[:, None].clamp(min=SMALLEST)
    area = SMALLEST + draws[0] * (largest - SMALLEST)  # (B, S)
    aspect = torch.exp((2 * draws[1] - 1) * -math.log(ASPECT))
    inside = [
        _segment(side, most, draw)
        for side, most, draw in zip(
            ((area * aspect).sqrt(), (area / aspect).sqrt()),
            grid_size,
            draws[2:],
            strict=True,
        )
    ]
    return _lay(inside[0][..., None] & inside[1][:, None], counts, generator)


def cross_mask(
    counts: Tensor, grid_size: GridSize, generator: torch.Generator | None = None
) -> Tensor:
    """Mask whole rows and columns through random centres; otherwise as `box_mask`."""
    one = torch.ones(len(counts), SHAPES)
    draws = torch.rand(2, len(counts), SHAPES, generator=generator)
    rows, cols = (
        _segment(one, most, draw) for most, draw in zip(grid_size, draws, strict=True)
    )
    return _lay(rows[..., None] | cols[:, None], counts, generator)


def _segment(length: Tensor, most: int, draw: Tensor) -> Tensor:
    """Segments (B, S) of a side, anywhere.

    Returns:
        (B, most) long: of every place the segments that it is in, a bit for each.
    """
    length = length.round().clamp(1, most)
    first = (draw * (most - length + 1)).floor()
    place = torch.arange(most)
    inside = (place >= first[..., None]) & (place < (first + length)[..., None])
    return (inside.long() << torch.arange(SHAPES)[:, None]).sum(1)


def _lay(covers: Tensor, counts: Tensor, generator: torch.Generator | None) -> Tensor:
    """The patches that shapes cover first, as many as wanted.

    Args:
        covers: (B, R, C) long: of every patch the shapes that it is in, a bit for each.
        counts: As of :func:`box_mask`.
        generator: Likewise.

    Returns:
        (B, N) bool, True = masked.
    """
    covers = covers.flatten(1)
    lowest = (covers & -covers).double().log2()  # the first of its shapes
    first = torch.where(covers > 0, lowest, SHAPES)
    batch_size, num = covers.shape
    noise = torch.rand(batch_size, num + 1, generator=generator)
    # The last shape is cut from its top or from its bottom; where shapes do not
    # suffice, chance decides.
    place = torch.arange(num) / num
    place = torch.where(noise[:, :1] < 0.5, place, 1 - place)
    rank = first + torch.where(first < SHAPES, place, noise[:, 1:])
    return rank.argsort(1).argsort(1) < counts[:, None]
