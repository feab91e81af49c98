"""Algorithms, backbones, necks, heads and losses; importing it registers them."""

from .backbones.position_vit import PositionViT
from .backbones.vitdet import ViTDet
from .heads.position_head import PositionHead
from .losses.position_loss import PositionLoss
from .necks.simple_fpn import SimpleFPN
from .selfsup.droppos import DropPos, DropPosMAE

__all__ = [
    'DropPos',
    'DropPosMAE',
    'PositionHead',
    'PositionLoss',
    'PositionViT',
    'SimpleFPN',
    'ViTDet',
]
