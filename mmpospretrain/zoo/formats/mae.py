"""MAE (He et al., CVPR 2022): timm's ViT with a decoder beside it.

``{'model': …}``; what the authors fine-tuned is recognised as timm's.
"""

from .family import Family
from .timm_vit import TIMM

FAMILY = Family(
    name='MAE',
    mark=r'(^|\.)decoder_embed\.weight$',
    names=TIMM,
    square=True,
    surplus=r'decoder_|mask_token$',
)
