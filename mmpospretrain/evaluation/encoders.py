"""Backbones with weights of any origin, for tools that need nothing but a backbone."""

from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmpospretrain.engine.cli import match_prefix_tokens
from mmpospretrain.zoo import load_backbone
from mmpospretrain.zoo.pretrained import pretrained_options


def build_backbone(cfg: Config, checkpoint: str) -> nn.Module:
    """The backbone of a config, or the model if it is one itself; with random weights.

    Args:
        cfg: Of a pre-training, a fine-tuning or a ViT.
        checkpoint: That will be loaded; says which tokens there are beside patches
            where the config leaves it open.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is no checkpoint.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    match_prefix_tokens(cfg, checkpoint)
    return MODELS.build({**_backbone_of(cfg), 'init_cfg': None})


def load_frozen(backbone: nn.Module, cfg: Config, checkpoint: str) -> nn.Module:
    """Give a backbone the weights of a checkpoint, to be evaluated.

    Args:
        backbone: As of `build_backbone`.
        cfg: Of the backbone; its ``init_cfg`` may say how checkpoints are read.
        checkpoint: File, URL or ``zoo://NAME``; of this suite, or of another project
            whose format is known, such as DINOv2, MAE, timm and Hugging Face. Of a
            student and a teacher, the teacher.

    Returns:
        The same, on the device and in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is not one of this backbone, or leaves positions random.
    """
    line = load_backbone(backbone, checkpoint, **pretrained_options(_backbone_of(cfg)))
    if 'positions start fresh' in line:
        raise ValueError(
            f'{line}: random positions say nothing about a pre-training. Give a config '
            'whose backbone has the kind of positions of the checkpoint'
        )
    return backbone.to(get_device()).eval()


def build_preprocessor(cfg: Config) -> nn.Module:
    """What normalises images for the backbone of a config, on the device."""
    wanted = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    preprocessor = MODELS.build({'type': 'mmpretrain.ClsDataPreprocessor', **wanted})
    return preprocessor.to(get_device()).eval()


def _backbone_of(cfg: Config) -> dict[str, Any]:
    return cfg.model.get('backbone', cfg.model)
