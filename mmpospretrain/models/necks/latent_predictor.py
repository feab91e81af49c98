"""The predictor of I-JEPA: what does the target encoder see at places not shown?

Letters: B images, C context tokens, T target blocks of K patches, N patches of the
grid, D width of the encoder, P width of the predictor.
"""

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import MODELS

from ..attention import run_layer
from ..positions import BlockIds, GridSize, sincos_pos_embed


@MODELS.register_module()
class LatentPredictor(BaseModule):
    """Predict features of target blocks from those of the context (I-JEPA, Sec. 3).

    A narrow ViT. Context tokens enter as ``A·s + b + ψ``, with A and b the weight and
    bias of ``embed``; target patches as ``m̃ + ψ``, with m̃ the mask token. Blocks are
    predicted one at a time, from the same context.

    Args:
        grid_size: ``(rows, cols)``, N patches.
        in_channels: D.
        embed_dims: P.
        depth: Number of transformer blocks: 6 for ViT-B, 12 for ViT-L and ViT-H.
        num_heads: Heads per block.
        mlp_ratio: Hidden width of a block's MLP over P.
        learnable_pos_embed: Whether ψ is trained; sin-cos at first in either case.
        init_cfg: As everywhere in MMEngine.

    Raises:
        ValueError: If ``depth`` is below 1 or the heads don't divide the width.
    """

    def __init__(
        self,
        grid_size: GridSize,
        in_channels: int,
        embed_dims: int = 384,
        depth: int = 6,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        learnable_pos_embed: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_at_least('depth', depth, 1)
        if embed_dims % num_heads:
            raise ValueError(
                f'num_heads {num_heads} does not divide embed_dims {embed_dims}'
            )
        self.embed = nn.Linear(in_channels, embed_dims)
        self.pos_embed = nn.Parameter(
            sincos_pos_embed(grid_size, embed_dims), requires_grad=learnable_pos_embed
        )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.layers = nn.Sequential(
            *(
                TransformerEncoderLayer(
                    embed_dims,
                    num_heads,
                    int(mlp_ratio * embed_dims),
                    norm_cfg=dict(type='LN', eps=1e-6),
                )
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)
        self.predict = nn.Linear(embed_dims, in_channels)

    def init_weights(self) -> None:
        """Initialise all parts, then the mask token (normal, std .02)."""
        super().init_weights()
        nn.init.normal_(self.mask_token, std=0.02)

    def positions(self, ids: Tensor) -> Tensor:
        """ψ of patches: ids of any shape to (…, P)."""
        return self.pos_embed[0][ids]

    def context_tokens(self, features: Tensor, ids: Tensor) -> Tensor:
        """What and where the context is: (B, C, D) and (B, C) to (B, C, P)."""
        return self.embed(features) + self.positions(ids)

    def masked_tokens(self, ids: Tensor) -> Tensor:
        """What asks for the target patches: (B, T, K) to (B, T, K, P)."""
        return self.positions(ids) + self.mask_token

    def forward(self, features: Tensor, ids: BlockIds) -> Tensor:
        """Predict.

        Args:
            features: (B, C, D), of the patches ``ids.context``.
            ids: Context and targets.

        Returns:
            (B, T, K, D), for the patches ``ids.targets``.
        """
        masked = self.masked_tokens(ids.targets)  # (B, T, K, P)
        num_targets = masked.shape[1]
        context = self.context_tokens(features, ids.context)  # (B, C, P)
        context = context[:, None].expand(-1, num_targets, -1, -1)  # (B, T, C, P)
        x = torch.cat((context, masked), dim=2).flatten(0, 1)  # (B·T, C + K, P)
        x = self.layers[:-1](x)
        asked = slice(context.shape[2], None)  # nobody reads the context's last layer
        x = run_layer(self.layers[-1], x, queries=asked)  # (B·T, K, P)
        return self.predict(self.norm(x)).unflatten(0, (-1, num_targets))
