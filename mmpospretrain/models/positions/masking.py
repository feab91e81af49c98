"""Random subsets of patches: pure functions of shapes, ratios and a generator.

Masks are bool, True = masked or dropped. Ids are row-major patch ids without prefix
tokens. Nothing here reads a value back from the device.

Letters: B images, N patches, V visible patches, D embedding width.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from mmpospretrain.checks import check_at_least, check_ratio

from ..device import send
from .grid import GridSize

MAX_DRAWS = 100  # of places, before the sizes are called impossible
TRIAL_DRAWS = 256  # before training; half of them must do


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

    Works on the CPU, because the sizes decide the shapes of what follows. Shares hold
    on any grid, up to rounding to patches; aspects yield where the grid has no room for
    them: see :func:`block_size`.

    Args:
        batch_size: B.
        grid_size: ``(rows, cols)``, N patches.
        num_targets: T, at least 1.
        target_scale: Range of a target's share of the N patches.
        target_aspect: Range of a target's height over its width.
        context_scale: Range of the context block's share of the N patches.
        min_context: C is at least this, and this at least 1.
        generator: Source of randomness, on the CPU.
        size_generator: Another one for the sizes, which the ranks of a distributed
            training should agree on: the largest blocks hold up all.

    Raises:
        ValueError: If an option is out of range, or an image keeps fewer than
            ``min_context`` patches in ``MAX_DRAWS`` draws. :func:`check_multiblock`
            tells before.
    """
    ranges = dict(
        target_scale=target_scale,
        target_aspect=target_aspect,
        context_scale=context_scale,
    )
    _check_options(num_targets, min_context, **ranges)
    lows, highs = torch.tensor([*ranges.values()], device='cpu').unbind(1)
    scale, aspect, share = torch.lerp(
        lows, highs, torch.rand(3, generator=size_generator or generator, device='cpu')
    ).tolist()
    target = block_size(grid_size, scale, aspect)
    context = block_size(grid_size, share, 1.0)
    corners = torch.zeros(batch_size, num_targets, 2, dtype=torch.long, device='cpu')
    visible = corners.new_zeros(batch_size, math.prod(grid_size), dtype=torch.bool)
    short = torch.arange(
        batch_size, device='cpu'
    )  # images without a context that is large enough
    for _ in range(MAX_DRAWS):
        corners[short], visible[short] = _draw(
            len(short), num_targets, grid_size, target, context, generator
        )
        short = short[visible[short].sum(1) < min_context]
        if not len(short):
            break
    else:
        raise ValueError(
            f'{num_targets} targets of {target[0]}x{target[1]} patches leave fewer '
            f'than min_context={min_context} of a context of {context[0]}x{context[1]} '
            f'in a grid of {grid_size[0]}x{grid_size[1]}: lower min_context, '
            'num_targets or target_scale, or raise context_scale'
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


def check_multiblock(
    grid_size: GridSize,
    *,
    num_targets: int,
    target_scale: tuple[float, float],
    target_aspect: tuple[float, float],
    context_scale: tuple[float, float],
    min_context: int,
) -> None:
    """Raise unless :func:`multiblock_ids` will find blocks for every image.

    One draw that does says little of the millions of a training. Half of
    ``TRIAL_DRAWS`` have to do with the largest targets and the smallest context: an
    image then fails ``MAX_DRAWS`` times in a row with a probability of about .5¹⁰⁰.

    Args:
        grid_size: ``(rows, cols)``.
        num_targets: As for :func:`multiblock_ids`, and so the others.
        target_scale: See there.
        target_aspect: See there.
        context_scale: See there.
        min_context: See there.

    Raises:
        ValueError: If an option is out of range, or too few draws do.
    """
    _check_options(
        num_targets,
        min_context,
        target_scale=target_scale,
        target_aspect=target_aspect,
        context_scale=context_scale,
    )
    context = block_size(grid_size, context_scale[0], 1.0)
    for target in _largest_sizes(grid_size, target_scale[1], target_aspect):
        if math.prod(context) - num_targets * math.prod(target) >= min_context:
            continue  # wherever they are
        generator = torch.Generator().manual_seed(0)
        _, visible = _draw(
            TRIAL_DRAWS, num_targets, grid_size, target, context, generator
        )
        enough = int((visible.sum(1) >= min_context).sum())
        if 2 * enough < TRIAL_DRAWS:
            raise ValueError(
                f'{num_targets} targets of {target[0]}x{target[1]} patches leave '
                f'min_context={min_context} or more of a context of '
                f'{context[0]}x{context[1]} in a grid of {grid_size[0]}x{grid_size[1]} '
                f'in only {enough} of {TRIAL_DRAWS} draws, and training needs them in '
                'every image: lower min_context, num_targets or target_scale, or raise '
                'context_scale'
            )


def block_size(grid_size: GridSize, scale: float, aspect: float) -> GridSize:
    """Rows and columns of a block: at least a patch, at most the grid.

    A side for which the grid has no room leaves its area to the other, so that the
    share of the grid stays and the aspect yields: .85 of 8x32 patches are 8x27.

    Args:
        grid_size: ``(rows, cols)``, N patches.
        scale: The block's share of the N patches, at most 1.
        aspect: Its height over its width.
    """
    area = scale * math.prod(grid_size)
    sides = math.sqrt(area * aspect), math.sqrt(area / aspect)
    if sides[0] > grid_size[0]:
        sides = grid_size[0], area / grid_size[0]
    elif sides[1] > grid_size[1]:
        sides = area / grid_size[1], grid_size[1]
    rows, cols = (
        min(max(round(side), 1), most)
        for side, most in zip(sides, grid_size, strict=True)
    )
    return rows, cols


def _largest_sizes(
    grid_size: GridSize, scale: float, aspects: tuple[float, float]
) -> set[GridSize]:
    """Sizes of blocks in a range of aspects, less those that fit into another."""
    area = scale * math.prod(grid_size)
    low, high = aspects
    # A size changes only at aspects where one of its sides is rounded anew.
    rows, cols = ([(side + 0.5) ** 2 for side in range(most)] for most in grid_size)
    turns = [*(x / area for x in rows), *(area / x for x in cols)]
    turns = sorted({low, high, *(x for x in turns if low < x < high)})
    between = (math.sqrt(a * b) for a, b in pairwise(turns))
    sizes = {block_size(grid_size, scale, aspect) for aspect in (low, high, *between)}
    return {
        (rows, cols)
        for rows, cols in sizes
        if not any(rows <= r and cols <= c and (rows, cols) != (r, c) for r, c in sizes)
    }


def _check_options(
    num_targets: int, min_context: int, **ranges: tuple[float, float]
) -> None:
    """Raise a ValueError for an option of :func:`multiblock_ids` that is none."""
    check_at_least('num_targets', num_targets, 1)
    check_at_least('min_context', min_context, 1)
    for name, value in ranges.items():
        if not isinstance(value, Sequence) or len(value) != 2:
            raise ValueError(f'{name} must be a pair (low, high), got {value!r}')
        low, high = value
        if not 0 < low <= high < math.inf or ('scale' in name and high > 1):
            most = ' up to 1' if 'scale' in name else ''
            raise ValueError(
                f'{name} must be an ascending range above 0{most}, got {value!r}'
            )


def _draw(
    batch_size: int,
    num_targets: int,
    grid_size: GridSize,
    target: GridSize,
    context: GridSize,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Places of targets, (B, T, 2), and what they leave of a context, (B, N) bool."""
    corners = _corners(batch_size, num_targets, grid_size, target, generator)
    hidden = _cover(corners, grid_size, target).any(1)  # (B, N)
    place = _corners(batch_size, 1, grid_size, context, generator)
    return corners, _cover(place, grid_size, context)[:, 0] & ~hidden


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
