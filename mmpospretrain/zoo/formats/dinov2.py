"""DINOv2 (Oquab et al., TMLR 2024): the published backbones, and whole checkpoints.

timm's names, LayerScale, a token for masked patches, and in some of them registers. The
released models have patches of 14 x 14 pixels and a grid of 37 x 37.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from .family import PATCHES, REGISTERS, Family
from .timm_vit import TIMM


def unchunk(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the chunks of layers of distributed training: blocks.1.4 is 4."""
    return {
        re.sub(r'^blocks\.\d+\.(\d+)\.', r'blocks.\1.', key): value
        for key, value in weights.items()
    }


FAMILY = Family(
    name='DINOv2',
    mark=r'(^|\.)((mask_token|register_tokens)$|dino_head\.)',
    names={**TIMM, REGISTERS: REGISTERS},
    square=True,
    branches=('', 'teacher.backbone.', 'student.backbone.'),
    surplus=r'mask_token$',
    adjust=unchunk,
)


def fit_patches(
    weights: dict[str, Tensor], expected: Mapping[str, Tensor]
) -> list[str]:
    """Make patches of 14 x 14 pixels, DINOv2's, those of 16 x 16 of a backbone.

    As PosField compares with it (Appendix D), which interpolates the kernel and does
    not say how. Here a patch, resized, gives the token that it gave before (Beyer et
    al., FlexiViT, CVPR 2023).

    Args:
        weights: In MMPretrain's names; changed in place.
        expected: Of the backbone.

    Returns:
        What was done. Other sizes stay, for whoever compares shapes.
    """
    sizes = [tuple(w[PATCHES].shape[-2:]) for w in (weights, expected) if PATCHES in w]
    if sizes != [(14, 14), (16, 16)]:
        return []
    from timm.layers import resample_patch_embed  # takes a second to import

    weights[PATCHES] = resample_patch_embed(weights[PATCHES], [16, 16])
    return ['patch embedding resampled 14x14 -> 16x16 pixels']
