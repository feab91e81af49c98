"""Features of several layers side by side, for linear probes."""

import torch
from mmpretrain.models.necks import ClsBatchNormNeck
from torch import Tensor

from mmpospretrain.registry import MODELS


@MODELS.register_module()
class ConcatBatchNormNeck(ClsBatchNormNeck):
    """MMPretrain's ``ClsBatchNormNeck`` over the concatenation of all its inputs.

    Args:
        input_features: Their widths in sum.
        affine: Whether the norm has a weight and a bias.
        eps: Of the norm.
        init_cfg: As everywhere in MMEngine.
    """

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        """A tuple of (B, D) each to one (B, L·D)."""
        return super().forward((torch.cat(inputs, dim=-1),))
