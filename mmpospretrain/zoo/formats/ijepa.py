"""I-JEPA (Assran et al., CVPR 2023), and StoP (Bar et al., ICML 2024) on top of it.

``.pth.tar`` with ``encoder``, ``predictor`` and ``target_encoder``, the keys of each
with ``module.``. Both papers evaluate the target encoder.
"""

from .family import Family
from .timm_vit import TIMM

FAMILY = Family(
    name='I-JEPA or StoP',
    mark=r'^target_encoder\.',
    names=TIMM,
    square=True,
    branches=('target_encoder.', 'encoder.'),
)
