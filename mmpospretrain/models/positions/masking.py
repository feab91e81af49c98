"""Random subsets of patches: pure functions of shapes, ratios and a generator.

Masks are bool, True = masked or dropped. Ids are row-major patch ids without prefix
tokens. Nothing here reads a value back from the device.

Letters: B images, N patches, V visible patches, D embedding width.
"""

from fractions import Fraction

import torch
from torch import Tensor


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


def check_ratio(
    name: str, ratio: float, *, low_open: bool = False, closed: bool = False
) -> None:
    """Raise a ValueError that names the ratio, its value and its range.

    Args:
        name: Name of the option, as the user knows it.
        ratio: Value to check.
        low_open: Whether 0 is excluded.
        closed: Whether 1 is included.
    """
    above = ratio > 0 if low_open else ratio >= 0
    below = ratio <= 1 if closed else ratio < 1
    if not (above and below):
        raise ValueError(
            f'{name} must lie in {"(" if low_open else "["}0, 1'
            f'{"]" if closed else ")"}, got {ratio}'
        )


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
