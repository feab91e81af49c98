"""StoP in the decoder of MAE (Sec. 5 of StoP: a negative result worth repeating).

Letters: B images, V visible patches, N patches of the grid, D width of the encoder, P
width of the decoder.
"""

import torch
from mmpretrain.models.necks import MAEPretrainDecoder
from torch import Tensor

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import MODELS

from ..positions import correlated_noise, gather_tokens


@MODELS.register_module()
class StochasticMAEDecoder(MAEPretrainDecoder):
    """MMPretrain's MAE decoder with stochastic positions of masked patches.

    While training, a mask token enters as ``m̃ + A·n + ψ``, n ~ N(0, σ·I), with A the
    weight of ``decoder_embed``.

    Args:
        sigma: σ, the variance of the noise before A.
        **kwargs: As for MMPretrain's ``MAEPretrainDecoder``.

    Raises:
        ValueError: If ``sigma`` is negative.
    """

    def __init__(self, sigma: float = 0.25, **kwargs) -> None:
        check_at_least('sigma', sigma, 0)
        super().__init__(**kwargs)
        self.sigma = sigma

    def forward(self, x: Tensor, ids_restore: Tensor) -> Tensor:
        """As upstream: (B, 1 + V, D) and (B, N) to predictions (B, N, p·p·C)."""
        tokens = self.decoder_embed(x)  # (B, 1 + V, P)
        batch_size, num = ids_restore.shape
        masked = self.mask_token.expand(batch_size, num + 1 - x.shape[1], -1)
        if self.training:
            weight = self.decoder_embed.weight
            masked = masked + correlated_noise(weight, masked.shape[:2], self.sigma)
        patches = torch.cat((tokens[:, 1:], masked), dim=1)  # (B, N, P), shuffled
        patches = gather_tokens(patches, ids_restore)
        x = torch.cat((tokens[:, :1], patches), dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]
