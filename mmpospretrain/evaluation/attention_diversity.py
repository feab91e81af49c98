"""How differently patches look, how far, and at what: Figures 5 and 6 of PosField.

PosField takes both measures from Park et al., "What do self-supervised vision
transformers learn?", ICLR 2023. Neither paper says what becomes of [CLS]. The code that
Park et al. have released drops it, and so it is here: it neither asks nor is looked at,
and what a patch gives to patches is scaled to 1. It has no place that a distance could
be measured to; and models with it and without it are measured alike.

Letters: B images of a batch, M images in all, L layers, H heads, N = R · C patches in R
rows and C columns, T tokens, Q patches that ask.
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from mmpretrain.models import VisionTransformer
from torch import Tensor

from ..models.positions import GridSize, grid_distance
from .attention import (
    encode_measured,
    mean_over_images,
    patch_maps,
    patch_size_of,
    same_grid,
)

Point = tuple[float, float]


class AttentionDiversity(NamedTuple):
    """How much heads look at, by layer (Fig. 5), averaged over images."""

    nmi: np.ndarray
    """(L, H), 0 … 1: normalised mutual information of query and key. At 0 all patches
    look at the same places, at 1 each looks at one, another for each."""
    distance: np.ndarray
    """(L, H) in pixels: mean distance from the centre of a patch that asks to the
    centres that it looks at, weighted by attention ("MAD")."""
    uniform_distance: float
    """What ``distance`` is if all patches look at all alike."""
    image_size: tuple[int, int]
    """Height and width in pixels."""
    num_images: int
    """M."""

    def summary(self) -> dict:
        """Plain values, by layer the mean over heads, as in the paper."""
        return dict(
            num_images=self.num_images,
            image_size=list(self.image_size),
            nmi=self.nmi.mean(1).tolist(),
            distance=self.distance.mean(1).tolist(),
            uniform_distance=self.uniform_distance,
        )


class QueryAttention(NamedTuple):
    """What chosen patches look at in the last layer (Fig. 6)."""

    query: np.ndarray
    """(M, Q, R, C), 0 … 1: attention to each patch, averaged over heads. A map sums to
    less than 1 by what [CLS] got."""
    patches: list[tuple[int, int]]
    """Q times row and column of the patch that asks."""

    def summary(self) -> dict:
        """Plain values of all but the maps."""
        return dict(
            grid_size=list(self.query.shape[2:]),
            patches=[list(patch) for patch in self.patches],
        )


def attention_diversity(
    backbone: VisionTransformer, batches: Iterable[Tensor]
) -> AttentionDiversity:
    """Measure all heads (Appendix A.1 of PosField).

    Args:
        backbone: See :func:`encode_measured`.
        batches: Normalised images (B, C, H, W), all of one size; at least one.

    Raises:
        ValueError: If the sizes differ, or the backbone is not of this kind.
    """
    means, count, grid_size = mean_over_images(backbone, batches, measure_diversity)
    patch_size = patch_size_of(backbone)
    return AttentionDiversity(
        nmi=means['nmi'],
        distance=means['distance'] * patch_size,
        uniform_distance=float(grid_distance(grid_size).mean()) * patch_size,
        image_size=tuple(side * patch_size for side in grid_size),
        num_images=count,
    )


def query_attention(
    backbone: VisionTransformer, batches: Iterable[Tensor], points: Sequence[Point]
) -> QueryAttention:
    """See what the patches at some points look at (Appendix A.2 of PosField).

    Args:
        backbone: See :func:`encode_measured`.
        batches: Normalised images (B, C, H, W), all of one size; at least one.
        points: x and y in pixels, from the upper left corner.

    Raises:
        ValueError: If a point is outside of the images, their sizes differ, or the
            backbone is not of this kind.
    """
    maps, grid_size = [], None
    for images in batches:
        grid_size = same_grid(grid_size, backbone, images)
        patches = patches_at(points, tuple(images.shape[-2:]), patch_size_of(backbone))
        measure = partial(measure_queries, patches=patches)
        _, (rows,) = encode_measured(backbone, images, measure, slice(-1, None))
        maps.append(rows.cpu())
    return QueryAttention(torch.cat(maps).numpy(), patches)


def measure_diversity(attention: Tensor, grid_size: GridSize) -> dict[str, Tensor]:
    """NMI and mean distance of one layer, summed over images.

    All patches ask equally often, p(q) = 1 / N, and p(q, k) = A(k | q) / N::

        NMI = I(q, k) / √(H(q) · H(k)),  I(q, k) = H(k) - H(k | q),  H(q) = log N

    It is taken of each image and head, and averaged only then. Where all patches look
    at one and the same, H(k) and I are 0; so is NMI.

    Args:
        attention: Probabilities (B, H, T, T), query by key.
        grid_size: ``(rows, cols)``.

    Returns:
        float64 (H,) each; distances between neighbours are 1.
    """
    num = math.prod(grid_size)
    maps = patch_maps(attention, grid_size)  # (B, H, N, N)
    entropy = torch.special.entr(maps).sum((2, 3), dtype=torch.float64) / num  # H(k|q)
    keys = maps.mean(2, dtype=torch.float64)  # p(k), (B, H, N)
    # What should be 0, rounding takes below.
    keys_entropy = torch.special.entr(keys).sum(-1).clamp(min=0)  # (B, H)
    information = (keys_entropy - entropy).clamp(min=0)
    largest = (math.log(num) * keys_entropy).sqrt()
    nmi = information / largest.where(largest > 0, torch.inf)
    distances = grid_distance(grid_size).to(maps)
    distance = (maps.flatten(2) @ distances.flatten()).double() / num  # (B, H)
    return dict(nmi=nmi.sum(0), distance=distance.sum(0))


def measure_queries(
    attention: Tensor, grid_size: GridSize, patches: Sequence[tuple[int, int]]
) -> Tensor:
    """Attention of some patches, averaged over heads.

    Args:
        attention: Probabilities (B, H, T, T), query by key.
        grid_size: ``(rows, cols)``.
        patches: Q times row and column.

    Returns:
        (B, Q, R, C).
    """
    num = math.prod(grid_size)
    places = [row * grid_size[1] + col for row, col in patches]
    maps = attention[:, :, -num:, -num:][:, :, places].mean(1)  # (B, Q, N)
    return maps.unflatten(-1, grid_size)


def patches_at(
    points: Sequence[Point], image_size: tuple[int, int], patch_size: int
) -> list[tuple[int, int]]:
    """Row and column of the patches at points.

    Args:
        points: x and y in pixels, from the upper left corner.
        image_size: Height and width in pixels.
        patch_size: Side of a patch in pixels.

    Raises:
        ValueError: If a point is outside.
    """
    height, width = image_size
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(
                f'there is no point ({x:g}, {y:g}) in an image of {width}x{height} '
                f'pixels: x goes from 0 to {width - 1}, y from 0 to {height - 1}'
            )
    return [(int(y // patch_size), int(x // patch_size)) for x, y in points]
