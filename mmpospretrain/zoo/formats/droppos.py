"""DropPos (Wang et al., NeurIPS 2023), as released: its code is that of MAE.

``{'model': …}`` with a decoder that predicts places, and one for pixels, ``aux_``,
where both are trained. What the authors fine-tuned is recognised as timm's.
"""

from .family import Family
from .timm_vit import TIMM

FAMILY = Family(
    name='DropPos',
    mark=r'(^|\.)mask_pos_token$',
    names=TIMM,
    square=True,
    surplus=r'(aux_)?decoder_|mask(_pos)?_token$',
)
