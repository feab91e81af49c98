"""A smooth field of positions over the whole image, which views crop with the image.

PosField, Sec. 3.2. A box is (x1, y1, x2, y2) in the image's own square [0, 1]².

Letters: V views, R rows and C columns of patches, N = R · C, F samples of the field
along each side, T of which count at a place, D embedding width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmpospretrain.checks import check_at_least, check_choice

from ..device import send
from .grid import GridSize

MODES = {'bicubic': 4, 'bilinear': 2}  # how many samples along a side count at a place


def patch_centres(boxes: Tensor, flipped: Tensor, grid_size: GridSize) -> Tensor:
    """Where in the image the patches of views have their centres.

    Args:
        boxes: (V, 4), what the views show.
        flipped: (V,) bool, whether a view is mirrored from left to right.
        grid_size: ``(rows, cols)`` of the patches.

    Returns:
        (V, N, 2), x and y, row-major.
    """
    rows, cols = grid_size

    def along(start: Tensor, end: Tensor, count: int) -> Tensor:
        steps = torch.arange(count, device=boxes.device, dtype=boxes.dtype) + 0.5
        return start[:, None] + (end - start)[:, None] * steps / count

    x1, y1, x2, y2 = boxes.unbind(1)
    left, right = torch.where(flipped, x2, x1), torch.where(flipped, x1, x2)
    x = along(left, right, cols)[:, None].expand(-1, rows, -1)  # (V, R, C)
    y = along(y1, y2, rows)[..., None].expand(-1, -1, cols)
    return torch.stack((x, y), dim=-1).flatten(1, 2)


class FieldPlaces(NamedTuple):
    """Where patches are in a field: what samples count for their rows and columns."""

    down: Tensor
    """(V, R, F)."""
    across: Tensor
    """(V, C, F)."""


class PositionField(nn.Module):
    """Learnable positions over [0, 1]² (Sec. 3.2.1).

    F x F samples, each in the middle of its cell, so that the whole image on a grid of
    F x F patches has them as they are.

    Args:
        embed_dims: D.
        size: F.
        mode: Between samples: ``'bicubic'`` or ``'bilinear'``.
        init_std: Of the truncated normal that samples start from.

    Raises:
        ValueError: If ``size`` is below 1 or ``mode`` unknown.
    """

    def __init__(
        self,
        embed_dims: int,
        size: int = 50,
        mode: str = 'bicubic',
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        check_at_least('size', size, 1)
        check_choice('mode', mode, MODES)
        self.size, self.mode = size, mode
        self.samples = nn.Parameter(torch.zeros(size, size, embed_dims))  # y, x
        nn.init.trunc_normal_(self.samples, std=init_std)

    def at(self, points: Tensor) -> Tensor:
        """Positions of any points of the image: (…, 2), x and y, to (…, D)."""
        samples = self._wide_samples().permute(2, 0, 1)  # (D, F, F)
        return self._sample(samples, points).to(self.samples)

    def places(
        self, boxes: Tensor, flipped: Tensor, grid_size: GridSize
    ) -> FieldPlaces:
        """Where the patches of views are, in every field of this size.

        Args:
            boxes: (V, 4), what the views show.
            flipped: (V,) bool, whether a view is mirrored from left to right.
            grid_size: ``(rows, cols)``.
        """
        centres = patch_centres(boxes, flipped, grid_size).unflatten(1, grid_size)
        sides = centres[:, :, 0, 1], centres[:, 0, :, 0]  # (V, R), (V, C)
        counts = self._counts(torch.cat(sides, dim=1))  # (V, R + C, F)
        return FieldPlaces(*counts.split(grid_size, dim=1))

    def at_places(self, places: FieldPlaces) -> Tensor:
        """Positions of the patches of views: (V, N, D), row-major.

        By two ways that differ in speed alone. A CPU adds up the few samples that
        count, and takes a fifth of the time of products with all. On a GPU products
        cost little, whereas the gradient of such sums would have it wait for the CPU.
        Neither is grid_sample, whose gradient is not deterministic there.
        """
        way = self._sums if self.samples.device.type == 'cpu' else self._products
        with torch.autocast(self.samples.device.type, enabled=False):
            return way(places, self._wide_samples()).to(self.samples)

    def _products(self, places: FieldPlaces, samples: Tensor) -> Tensor:
        lines = torch.tensordot(places.down, samples, dims=1)  # (V, R, F, D)
        found = places.across[:, None] @ lines  # (V, R, C, D)
        return found.flatten(1, 2)

    def _sums(self, places: FieldPlaces, samples: Tensor) -> Tensor:
        few = min(MODES[self.mode], self.size)
        rows, cols = (x.abs().topk(few, dim=-1).indices for x in places)
        down, across = places.down.gather(-1, rows), places.across.gather(-1, cols)
        # The T x T samples around each patch, (V, R, C, T, T).
        weights = down[:, :, None, :, None] * across[:, None, :, None, :]
        near = rows[:, :, None, :, None] * self.size + cols[:, None, :, None, :]
        found = F.embedding_bag(
            near.flatten(3).flatten(0, 2),
            samples.flatten(0, 1),
            per_sample_weights=weights.flatten(3).flatten(0, 2),
            mode='sum',
        )  # (V·N, D)
        return found.unflatten(0, (len(rows), -1))

    def on_grid(self, boxes: Tensor, flipped: Tensor, grid_size: GridSize) -> Tensor:
        """Positions (V, N, D) of the patches of views: see :meth:`places`."""
        return self.at_places(self.places(boxes, flipped, grid_size))

    def pos_embed(self, grid_size: GridSize) -> Tensor:
        """Positions of a whole image: an ordinary embedding (1, N, D)."""
        corners = [[0.0, 0.0, 1.0, 1.0]]
        box = send(torch.tensor(corners, dtype=torch.float64), self.samples.device)
        return self.on_grid(box, box.new_zeros(1, dtype=torch.bool), grid_size)

    def _wide_samples(self) -> Tensor:
        # Places want more digits than half precision has.
        return self.samples.to(torch.promote_types(self.samples.dtype, torch.float32))

    def _counts(self, places: Tensor) -> Tensor:
        """What samples along a side count at places (V, n) of [0, 1]: (V, n, F)."""
        like = self._wide_samples()
        one_each = torch.eye(self.size, dtype=like.dtype, device=like.device)
        points = torch.stack((places, torch.full_like(places, 0.5)), dim=-1)
        return self._sample(one_each[:, None], points)  # of maps 1 x F

    def _sample(self, maps: Tensor, points: Tensor) -> Tensor:
        """Values (…, M) of maps (M, rows, cols) at points (…, 2)."""
        found = F.grid_sample(
            maps[None],
            (2 * points.to(maps) - 1).view(1, 1, -1, 2),
            self.mode,
            padding_mode='border',
            align_corners=False,
        )  # (1, M, 1, n)
        return found[0, :, 0].T.view(*points.shape[:-1], -1)


def draw_scales(
    count: int,
    distribution: str = 'beta',
    generator: torch.Generator | None = None,
    smallest: float = 0.2,
    device: torch.device | None = None,
) -> Tensor | None:
    """Areas s that the views of images are given in the field (Sec. 3.2.2, Tab. 4).

    Args:
        count: Number of images.
        distribution: ``'beta'``, Beta(2, 5) between ``smallest`` and 1, ``'uniform'``
            between them, or ``'constant'``: None, views stay where they are.
        generator: Source of randomness, on ``device``.
        smallest: Least s.
        device: Where the result lives.

    Raises:
        ValueError: If the distribution is unknown.
    """
    check_choice('distribution', distribution, ('beta', 'uniform', 'constant'))
    if distribution == 'constant':
        return None
    draws = torch.rand(count, 6, generator=generator, device=device)
    # The second of six uniform numbers, by size, has the distribution Beta(2, 5).
    share = draws.sort(dim=1).values[:, 1] if distribution == 'beta' else draws[:, 0]
    return smallest + (1 - smallest) * share


def move_views(
    boxes: Tensor, scales: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Scale and shift all views of an image together (Sec. 3.2.2).

    The smallest rectangle A around an image's views is scaled until its area is s, or
    until it is as wide or as high as the field, and put anywhere in it.

    Args:
        boxes: (B, V, 4), V views of each of B images.
        scales: (B,), s.
        generator: Source of randomness, on the device of the boxes.

    Returns:
        (B, V, 4), in [0, 1]².
    """
    corner = boxes[..., :2].amin(1)  # (B, 2)
    size = boxes[..., 2:].amax(1) - corner
    factor = (scales / size.prod(1)).sqrt()
    factor = torch.minimum(factor, (1 / size).amin(1))[:, None]  # (B, 1)
    room = (1 - factor * size).clamp(min=0)
    target = torch.rand(corner.shape, generator=generator, device=boxes.device) * room
    points = boxes.unflatten(-1, (2, 2))  # (B, V, 2, 2), two corners of each view
    corner, target, factor = (x[:, None, None] for x in (corner, target, factor))
    return ((points - corner) * factor + target).flatten(-2).clamp(0, 1)
