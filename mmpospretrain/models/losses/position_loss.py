"""Cross-entropy over places, with smoothed targets (DropPos, Eqs. 4-8).

Letters: B images, V visible patches, N places of the grid.
"""

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import MODELS

from ..positions import GridSize, grid_distance


def smoothing_map(distance: Tensor, sigma: Tensor | float) -> Tensor:
    """Target distribution over places for every true place (Eq. 5 of DropPos).

    ``exp(-dist / σ²)`` with every row normalised. σ = 0 gives exactly one-hot rows.

    Args:
        distance: (N, N), zero on the diagonal and only there.
        sigma: Width σ ≥ 0 in patch units; a tensor never leaves its device.

    Returns:
        (N, N), rows sum to 1.
    """
    # The diagonal is written, not computed: at σ = 0 it would be 0 / 0, while -d / 0
    # elsewhere is -inf, whose exponential is the zero that we want.
    weight = torch.exp(-distance / torch.as_tensor(sigma).square())
    weight = torch.where(distance == 0, torch.ones_like(weight), weight)
    return weight / weight.sum(dim=1, keepdim=True)


def position_loss(
    logits: Tensor, ids: Tensor, weight: Tensor, targets: Tensor
) -> Tensor:
    """Weighted mean cross-entropy between predicted and smoothed places (Eq. 8).

    The mean is over the global batch: ranks share the sum of the weights, so that the
    averaged gradients are those of one process that sees all images.

    Args:
        logits: (B, V, N).
        ids: (B, V), true patch ids.
        weight: (B, V), zero where the patch does not count.
        targets: (N, N), row i is the target distribution of place i.

    Returns:
        Scalar, float32.
    """
    # ViT logits in half precision, their softmax in full.
    cross_entropy = F.cross_entropy(
        logits.flatten(0, 1).float(), targets[ids.flatten()], reduction='none'
    )  # (B·V,)
    weight = weight.flatten().float()
    total = weight.sum()
    all_reduce(total, op='mean')
    return (weight * cross_entropy).sum() / total


def position_accuracy(logits: Tensor, ids: Tensor, counted: Tensor) -> Tensor:
    """Top-1 accuracy in percent over the patches that count, unweighted.

    Args:
        logits: (B, V, N).
        ids: (B, V), true patch ids.
        counted: (B, V) bool.

    Returns:
        Scalar in [0, 100].
    """
    correct = (logits.argmax(dim=-1) == ids) & counted
    return 100 * correct.sum() / counted.sum()


@MODELS.register_module()
class PositionLoss(nn.Module):
    """Smoothed position classification (:func:`position_loss`).

    Args:
        grid_size: ``(rows, cols)``.
        sigma: Smoothing width σ; 0 is plain cross-entropy. ``ScalarScheduleHook`` moves
            it during training (Eq. 7 of DropPos).
        distance: ``'euclidean'`` (paper) or ``'squared'`` (released code).

    Raises:
        ValueError: If ``sigma`` is negative or ``distance`` unknown.
    """

    def __init__(
        self, grid_size: GridSize, sigma: float = 0.0, distance: str = 'euclidean'
    ) -> None:
        super().__init__()
        self.check_sigma(sigma)
        # Not persistent: the schedule sets σ from the iteration, a checkpoint that
        # carried it could only disagree. A tensor, so that a new σ needs neither a
        # transfer nor a recompilation.
        self.register_buffer('sigma', torch.tensor(float(sigma)), persistent=False)
        self.register_buffer(
            'distance', grid_distance(grid_size, distance), persistent=False
        )

    @staticmethod
    def check_sigma(sigma: float) -> None:
        """Raise a ValueError unless ``sigma`` is a width; schedules ask as well."""
        check_at_least('sigma', sigma, 0)

    def forward(self, logits: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
        """See :func:`position_loss`."""
        targets = smoothing_map(self.distance, self.sigma)
        return position_loss(logits, ids, weight, targets)
