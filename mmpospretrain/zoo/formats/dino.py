"""DINO (Caron et al., ICCV 2021) and iBOT (Zhou et al., ICLR 2022), whole checkpoints.

``student`` and ``teacher``, the keys of each with ``module.`` and ``backbone.``. Both
papers evaluate the teacher. The backbones that are published alone have timm's names.
"""

from .family import Family
from .timm_vit import TIMM

FAMILY = Family(
    name='DINO or iBOT',
    mark=r'^(teacher|student)\.backbone\.',
    names=TIMM,
    square=True,
    branches=('teacher.backbone.', 'student.backbone.'),
    surplus=r'masked_embed$',  # of iBOT
)
