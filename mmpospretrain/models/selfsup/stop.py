"""StoP: I-JEPA that is told only roughly where its targets are.

Bar et al., ICML 2024. A target's position becomes random, ``ψ̂ ~ N(ψ, σ·A·Aᵀ)``. A also
brings in the context: who shrinks the noise shrinks that, too (Sec. 3.2).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmpospretrain.checks import check_at_least, check_choice
from mmpospretrain.registry import MODELS

from ..necks.latent_predictor import LatentPredictor
from ..positions import BlockIds, correlated_noise
from .ijepa import IJEPA

NOISE_ON = {'none': '', 'masked': 'm', 'context': 'c', 'both': 'mc'}
LOW_RESOLUTIONS = dict(bilinear=F.adaptive_avg_pool2d, max=F.adaptive_max_pool2d)


@MODELS.register_module()
class StochasticPredictor(LatentPredictor):
    """The predictor, with stochastic positions while training.

    Args:
        sigma: σ, the variance of the noise before A (the released code: ``.25²``).
        noise_on: ``'masked'``, ``'context'``, ``'both'`` or ``'none'`` get it (Tab. 7).
        covariance: ``'learned'``, σ·A·Aᵀ, or ``'fixed'``, σ·I (Fig. 3).
        **kwargs: As for :class:`LatentPredictor`.
    """

    def __init__(
        self,
        sigma: float = 0.25,
        noise_on: str = 'masked',
        covariance: str = 'learned',
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        check_at_least('sigma', sigma, 0)
        check_choice('noise_on', noise_on, NOISE_ON)
        check_choice('covariance', covariance, ('learned', 'fixed'))
        self.sigma = sigma
        self.noisy = NOISE_ON[noise_on]
        self.covariance = covariance

    def shifts(self, kind: str, ids: Tensor) -> Tensor | float:
        """Noise A·n for each of ``ids``, any shape: (…, P) (Eq. 3), or 0 for none."""
        if not (self.training and kind in self.noisy):
            return 0.0
        a = self.embed.weight  # (P, D)
        matrix = torch.eye(len(a)).to(a) if self.covariance == 'fixed' else a
        return correlated_noise(matrix, ids.shape, self.sigma)

    def context_tokens(self, features: Tensor, ids: Tensor) -> Tensor:
        """As upstream, c = A·s + b + ψ; with noise as a variant (Tab. 7)."""
        return super().context_tokens(features, ids) + self.shifts('c', ids)

    def masked_tokens(self, ids: Tensor) -> Tensor:
        """With noise, m = A·n + ψ + m̃."""
        return super().masked_tokens(ids) + self.shifts('m', ids)


@MODELS.register_module()
class StoP(IJEPA):
    """I-JEPA with a :class:`StochasticPredictor`; logs ‖A‖ and ‖m̃‖ (Fig. 4).

    Args:
        l1_weight: Weight of mean |A|; with ``noise_on='none'``, that of Sec. 4.3.
        low_resolution: ``'bilinear'`` or ``'max'`` adds the loss between predictions
            and targets that are halved within their block, to 1 at least (Tab. 8).
        **kwargs: As for :class:`IJEPA`.
    """

    def __init__(
        self, l1_weight: float = 0.0, low_resolution: str | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        check_choice('low_resolution', low_resolution, (None, *LOW_RESOLUTIONS))
        check_at_least('l1_weight', l1_weight, 0)
        self.l1_weight = l1_weight
        self.downscale = LOW_RESOLUTIONS.get(low_resolution)

    def compare(self, predictions: Tensor, targets: Tensor, ids: BlockIds) -> dict:
        """As :class:`IJEPA`, with the terms of the ablations added."""
        result = super().compare(predictions, targets, ids)
        matrix = self.neck.embed.weight
        if self.l1_weight or self.downscale:  # `loss` in the log is the sum
            result['loss_features'] = result.pop('loss')
        if self.l1_weight:
            result['loss_l1'] = self.l1_weight * matrix.abs().mean()
        if self.downscale:
            low = (x.flatten(0, 1).mT for x in (predictions, targets))  # (B·T, D, K)
            half = [max(side // 2, 1) for side in ids.target_size]
            low = (self.downscale(x.unflatten(2, ids.target_size), half) for x in low)
            result['loss_low'] = F.smooth_l1_loss(*low)
        norms = dict(norm_A=matrix.norm(), norm_mask_token=self.neck.mask_token.norm())
        return result | {name: norm.detach() for name, norm in norms.items()}
