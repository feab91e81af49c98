"""Weights: safe reading, strict loading, and the way from pre-training to transfer."""

from .loading import load_checkpoint_file
from .pretrained import PretrainedBackbone, has_cls_token, load_backbone, local_file

__all__ = [
    'PretrainedBackbone',
    'has_cls_token',
    'load_backbone',
    'load_checkpoint_file',
    'local_file',
]
