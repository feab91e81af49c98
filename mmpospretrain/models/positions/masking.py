"""Random subsets of patches: pure functions of shapes, ratios and a generator.

Masks are bool, True = masked or dropped. Ids are row-major patch ids without prefix
tokens. Nothing here reads a value back from the device.

Letters: B images, N patches, V visible patches, D embedding width.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from mmpospretrain.checks import check_ratio

from ..device import send
from .grid import GridSize

MAX_DRAWS = 100  # of places, before the sizes are called impossible


def num_kept(num: int, ratio: float, minimum: int = 1) -> int:
    """How many of ``num`` items stay when the share ``ratio`` is taken away.

    ``int(num * (1 - ratio))`` in exact decimal arithmetic: with floats,
    ``int(10 * (1 - 0.9))`` is 0.

    Args:
        num: Number of items.
        ratio: Share taken away, in [0, 1].
        minimum: Lower bound of the result; patches must not vanish altogether.

    Raises:
        ValueError: If ``ratio`` lies outside [0, 1].
    """
    check_ratio('ratio', ratio, closed=True)
    return max(minimum, int(num * (1 - Fraction(str(ratio)))))


def shuffle_ids(
    batch_size: int,
    num: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """An independent uniform permutation of ``0 .. num - 1`` for every image.

    The first V columns are V random patches; ``argsort`` of the whole undoes it.

    Args:
        batch_size: B.
        num: N.
        generator: Source of randomness; the default one of ``device`` if None.
        device: Where the result lives; it must be the generator's device.

    Returns:
        Long tensor of shape (B, N).
    """
    noise = torch.rand(batch_size, num, generator=generator, device=device)
    return noise.argsort(dim=1)  # (B, N)


def random_mask(
    batch_size: int,
    num: int,
    num_masked: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Mask exactly ``num_masked`` of ``num`` places of every image, uniformly.

    Returns:
        Bool tensor of shape (B, N), True = masked.
    """
    return shuffle_ids(batch_size, num, generator, device) < num_masked


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick tokens by id.

    Args:
        tokens: (B, N, D).
        ids: (B, V), patch ids.

    Returns:
        (B, V, D).
    """
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))


class BlockIds(NamedTuple):
    """Patches that a model sees of an image, and blocks that it has to predict."""

    context: Tensor
    """(B, C) long, ascending."""
    targets: Tensor
    """(B, T, K) long: T blocks of one size, row-major each."""
    target_size: GridSize
    """Rows and columns of a block; K is their product."""

    def to(self, device: torch.device | str | None) -> 'BlockIds':
        """The same on another device."""
        return self._replace(
            context=send(self.context, device), targets=send(self.targets, device)
        )


def gather_blocks(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick blocks of tokens by id.

    Args:
        tokens: (B, N, D).
        ids: (B, T, K), patch ids.

    Returns:
        (B, T, K, D).
    """
    return gather_tokens(tokens, ids.flatten(1)).unflatten(1, ids.shape[1:])


def multiblock_ids(
    batch_size: int,
    grid_size: GridSize,
    *,
    num_targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
    min_context: int = 10,
    generator: torch.Generator | None = None,
    size_generator: torch.Generator | None = None,
) -> BlockIds:
    """Multi-block masks of I-JEPA: a large square minus several target blocks.

    The sizes of the blocks are drawn once for the batch, scale and aspect
    independently; their places for every image. Images that keep too small a context
    get new places. At last all contexts are cut to the smallest of the batch, at
    random: cut at their end, they would lose the bottom of the image.

    Works on the CPU, because the sizes decide the shapes of what follows.

    Args:
        batch_size: B.
        grid_size: ``(rows, cols)``, N patches.
        num_targets: T.
        target_scale: Range of a target's share of the N patches.
        target_aspect: Range of a target's height over its width.
        context_scale: Range of the context block's share of the N patches.
        min_context: C is at least this.
        generator: Source of randomness, on the CPU.
        size_generator: Another one for the sizes, which the ranks of a distributed
            training should agree on: the largest blocks hold up all.

    Raises:
        ValueError: If a range is not one, or no image keeps ``min_context`` patches.
    """
    ranges = dict(
        target_scale=target_scale,
        target_aspect=target_aspect,
        context_scale=context_scale,
    )
    for name, (low, high) in ranges.items():
        if not 0 < low <= high or ('scale' in name and high > 1):
            raise ValueError(f'{name} must be an ascending range, got {(low, high)}')

    lows, highs = torch.tensor([*ranges.values()], device='cpu').unbind(1)
    scale, aspect, share = torch.lerp(
        lows, highs, torch.rand(3, generator=size_generator or generator, device='cpu')
    ).tolist()
    target = _block_size(grid_size, scale, aspect)
    context = _block_size(grid_size, share, 1.0)
    corners = torch.zeros(batch_size, num_targets, 2, dtype=torch.long, device='cpu')
    visible = corners.new_zeros(batch_size, math.prod(grid_size), dtype=torch.bool)
    short = torch.arange(
        batch_size, device='cpu'
    )  # images without a context that is large enough
    for _ in range(MAX_DRAWS):
        shape = len(short), num_targets
        corners[short] = _corners(*shape, grid_size, target, generator)
        hidden = _cover(corners[short], grid_size, target).any(1)  # (S, N)
        place = _corners(len(short), 1, grid_size, context, generator)
        visible[short] = _cover(place, grid_size, context)[:, 0] & ~hidden
        short = short[visible[short].sum(1) < min_context]
        if not len(short):
            break
    else:
        raise ValueError(
            f'{num_targets} targets of {target[0]}x{target[1]} patches leave fewer '
            f'than min_context={min_context} of a context of {context[0]}x{context[1]} '
            f'in a grid of {grid_size[0]}x{grid_size[1]}: ask for fewer or smaller '
            'targets'
        )

    count = int(visible.sum(1).min())
    noise = torch.rand(visible.shape, generator=generator, device='cpu')
    noise = noise.masked_fill(~visible, 2.0)
    rows, cols = (torch.arange(side, device='cpu') for side in target)
    block = (rows[:, None] * grid_size[1] + cols).flatten()  # (K,)
    first = corners[..., 0] * grid_size[1] + corners[..., 1]  # (B, T)
    return BlockIds(
        context=noise.argsort(1)[:, :count].sort(1).values,
        targets=first[..., None] + block,
        target_size=target,
    )


def _block_size(grid_size: GridSize, scale: float, aspect: float) -> GridSize:
    """Rows and columns of a block: at least a patch, at most the grid."""
    area = scale * math.prod(grid_size)
    sides = math.sqrt(area * aspect), math.sqrt(area / aspect)
    rows, cols = (
        min(max(round(side), 1), most)
        for side, most in zip(sides, grid_size, strict=True)
    )
    return rows, cols


def _corners(
    batch_size: int,
    num: int,
    grid_size: GridSize,
    block: GridSize,
    generator: torch.Generator | None,
) -> Tensor:
    """Uniform places of blocks: their first rows and columns, (B, T, 2)."""
    limits = [most - side + 1 for most, side in zip(grid_size, block, strict=True)]
    draws = [
        torch.randint(limit, (batch_size, num), generator=generator, device='cpu')
        for limit in limits
    ]
    return torch.stack(draws, dim=-1)


def _cover(corners: Tensor, grid_size: GridSize, block: GridSize) -> Tensor:
    """The patches in blocks: (B, T, 2) to bool (B, T, N)."""
    rows, cols = (
        (place >= corners[..., axis, None])
        & (place < corners[..., axis, None] + block[axis])
        for axis, place in enumerate(
            torch.arange(side, device=corners.device) for side in grid_size
        )
    )
    return (rows[..., :, None] & cols[..., None, :]).flatten(-2)
