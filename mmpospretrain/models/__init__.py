"""Algorithms, backbones, necks, heads and losses; importing it registers them."""

from .backbones.position_vit import PositionViT
from .backbones.vitdet import ViTDet
from .heads.position_head import PositionHead
from .heads.prototype_head import PrototypeHead
from .losses.distillation import DINOLoss, IBOTLoss, KoLeoLoss
from .losses.position_loss import PositionLoss
from .necks.concat_batch_norm import ConcatBatchNormNeck
from .necks.latent_predictor import LatentPredictor
from .necks.simple_fpn import SimpleFPN
from .necks.stochastic_mae_decoder import StochasticMAEDecoder
from .selfsup.dinov2 import DINOv2
from .selfsup.droppos import DropPos, DropPosMAE
from .selfsup.ijepa import IJEPA
from .selfsup.mp3 import MP3
from .selfsup.posfield import FieldViT, PosField
from .selfsup.stop import StochasticPredictor, StoP

__all__ = [
    'IJEPA',
    'MP3',
    'ConcatBatchNormNeck',
    'DINOLoss',
    'DINOv2',
    'DropPos',
    'DropPosMAE',
    'FieldViT',
    'IBOTLoss',
    'KoLeoLoss',
    'LatentPredictor',
    'PosField',
    'PositionHead',
    'PositionLoss',
    'PositionViT',
    'PrototypeHead',
    'SimpleFPN',
    'StoP',
    'StochasticMAEDecoder',
    'StochasticPredictor',
    'ViTDet',
]
