"""Formats of published checkpoints: one file each, recognised by their keys."""

from collections.abc import Mapping

from torch import Tensor

from . import dino, dinov2, droppos, huggingface, ijepa, mae, timm_vit
from .family import PATCHES, REGISTERS, Family, flat_weights

# In the order in which they are asked: several share the names of timm.
FAMILIES = (
    huggingface.DINOV2_FAMILY,
    huggingface.VIT_FAMILY,
    droppos.FAMILY,
    mae.FAMILY,
    ijepa.FAMILY,
    dinov2.FAMILY,
    dino.FAMILY,
    timm_vit.FAMILY,
)


def recognise(weights: Mapping[str, Tensor]) -> Family | None:
    """The format of weights from `flat_weights`; None if it is none of these.

    The suite's own names, which are MMPretrain's, are no format of these.
    """
    return next((family for family in FAMILIES if family.recognises(weights)), None)


__all__ = [
    'FAMILIES',
    'PATCHES',
    'REGISTERS',
    'Family',
    'flat_weights',
    'recognise',
]
