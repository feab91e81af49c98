"""Algorithms, backbones, heads and losses; importing it registers them."""

from .backbones.position_vit import PositionViT
from .heads.position_head import PositionHead
from .losses.position_loss import PositionLoss
from .selfsup.droppos import DropPos, DropPosMAE

__all__ = ['DropPos', 'DropPosMAE', 'PositionHead', 'PositionLoss', 'PositionViT']
