"""Which prototypes does a token resemble? The head of DINO, iBOT, DINOv2 and PosField.

Letters: D embedding width, K prototypes, P their width.
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import MODELS

from ..losses.prototype_cross_entropy import row_products


class UnitRows(torch.autograd.Function):
    """Rows of norm 1, as of ``F.normalize``, in a third of the time.

    Its gradient makes one matrix of the size of the prototypes, where that of
    ``F.normalize`` makes several; 67 MB each, which a CPU takes anew every time.
    """

    @staticmethod
    def forward(ctx, rows):  # noqa: ANN001
        norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        inverse = norm.clamp_(min=1e-12).reciprocal_()
        ctx.save_for_backward(rows, inverse)
        return rows * inverse

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):  # noqa: ANN001
        rows, inverse = ctx.saved_tensors
        along = row_products(rows, grad)[:, None] * inverse.square()
        return torch.addcmul(grad, rows, along, value=-1).mul_(inverse)


@MODELS.register_module()
class PrototypeHead(BaseModule):
    """An MLP, and the cosine of what it says to each of K prototypes (DINO, Sec. 3.2).

    Both are normed, so logits lie in [-1, 1]: the norm of the last layer, which DINOv2
    fixes at 1, is 1 by construction. The products are left to targets and losses.

    Args:
        in_channels: D.
        num_prototypes: K.
        hidden_dims: Width of the hidden layers.
        bottleneck_dims: P.
        num_layers: Of the MLP, its last one to the bottleneck included.
        init_cfg: As everywhere in MMEngine.

    Raises:
        ValueError: If a number is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        num_prototypes: int = 65536,
        hidden_dims: int = 2048,
        bottleneck_dims: int = 256,
        num_layers: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_at_least('num_prototypes', num_prototypes, 1)
        check_at_least('num_layers', num_layers, 1)
        layers: list[nn.Module] = []
        width = in_channels
        for _ in range(num_layers - 1):
            layers += [nn.Linear(width, hidden_dims), nn.GELU()]
            width = hidden_dims
        self.mlp = nn.Sequential(*layers, nn.Linear(width, bottleneck_dims))
        self.prototypes = nn.Linear(bottleneck_dims, num_prototypes, bias=False)

    def init_weights(self) -> None:
        """Truncated normal (std .02) for all weights, zero for all biases."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the MLP says of tokens, and the prototypes: logits are their products.

        Hidden layers are worked out anew for the gradient: to keep them took 32 kB a
        token, nearly 1 % of a step of ViT-S for each head of masked patches.

        Args:
            tokens: (n, D).

        Returns:
            (n, P) and (K, P), rows of norm 1, float32 even in mixed precision.
        """
        said = checkpoint(
            self.mlp, tokens, use_reentrant=False, preserve_rng_state=False
        )
        # A norm is taken of many small numbers: not in half precision.
        answers = F.normalize(said.float(), dim=-1)
        return answers, UnitRows.apply(self.prototypes.weight.float())
