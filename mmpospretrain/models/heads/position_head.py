"""Which place of the grid does a token come from?

Letters: B images, P prefix tokens, V patch tokens, N places of the grid, D width.
"""

from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import MODELS

from ..positions import GridSize


@MODELS.register_module()
class PositionHead(BaseModule):
    """Classify every patch token into the N places of the grid.

    With ``depth`` > 0 a light decoder comes first, as in DropPos (Sec. 3.2): a linear
    map to ``decoder_dims``, ``depth`` transformer blocks without any position
    embedding, a norm. With ``depth=0`` it is one linear layer, as in MP3.

    Args:
        grid_size: ``(rows, cols)``, N places.
        in_channels: Width D of the tokens.
        num_prefix_tokens: P, dropped from the output.
        decoder_dims: Width of the decoder.
        depth: Number of transformer blocks.
        num_heads: Heads per block.
        mlp_ratio: Hidden width of a block's MLP over ``decoder_dims``.
        loss: Config of the loss, given ``grid_size``.
        init_cfg: As everywhere in MMEngine.

    Raises:
        ValueError: If a size is out of range or the heads don't divide the width.
    """

    def __init__(
        self,
        grid_size: GridSize,
        in_channels: int,
        num_prefix_tokens: int = 1,
        decoder_dims: int = 512,
        depth: int = 2,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        loss: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_at_least('depth', depth, 0)
        check_at_least('decoder_dims', decoder_dims, 1)
        check_at_least('num_heads', num_heads, 1)
        check_at_least('mlp_ratio', mlp_ratio, 1 / decoder_dims)
        if depth and decoder_dims % num_heads:
            raise ValueError(
                f'num_heads {num_heads} does not divide decoder_dims {decoder_dims}'
            )
        self.grid_size = grid_size
        self.num_prefix_tokens = num_prefix_tokens
        rows, cols = grid_size
        width = decoder_dims if depth else in_channels
        self.decoder = (
            nn.Sequential(
                nn.Linear(in_channels, decoder_dims),
                *(
                    TransformerEncoderLayer(
                        decoder_dims,
                        num_heads,
                        int(mlp_ratio * decoder_dims),
                        norm_cfg=dict(type='LN', eps=1e-6),
                    )
                    for _ in range(depth)
                ),
                nn.LayerNorm(decoder_dims, eps=1e-6),
            )
            if depth
            else nn.Identity()
        )
        self.classifier = nn.Linear(width, rows * cols)
        loss = {'type': 'mmpospretrain.PositionLoss', **(loss or {})}
        self.loss_module = MODELS.build({**loss, 'grid_size': grid_size})

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits over places for the patch tokens.

        Args:
            tokens: (B, P + V, D).

        Returns:
            (B, V, N).
        """
        return self.classifier(self.decoder(tokens)[:, self.num_prefix_tokens :])

    def loss(self, logits: Tensor, ids: Tensor, weight: Tensor) -> Tensor:
        """Loss of logits (B, V, N) against true ids (B, V), weighted by (B, V)."""
        return self.loss_module(logits, ids, weight)
