"""Random displacements of position embeddings: pure functions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mmpospretrain.checks import check_at_least


def correlated_noise(
    matrix: Tensor,
    size: Sequence[int],
    variance: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Samples A·n of N(0, σ·A·Aᵀ), with n ~ N(0, σ·I) (Eqs. 2 and 3 of StoP).

    The gradient reaches A through them.

    Args:
        matrix: A, (P, D).
        size: How many samples; any shape.
        variance: σ, the variance of n, not its standard deviation.
        generator: Source of randomness, on the device of ``matrix``.

    Returns:
        ``(*size, P)``.

    Raises:
        ValueError: If the variance is negative.
    """
    check_at_least('the variance', variance, 0)
    noise = torch.randn(
        *size,
        matrix.shape[1],
        generator=generator,
        device=matrix.device,
        dtype=matrix.dtype,
    )
    return F.linear(math.sqrt(variance) * noise, matrix)
