"""Weights: safe reading, strict loading, and the way from pre-training to transfer."""

from .loading import load_checkpoint_file
from .pretrained import PretrainedBackbone, load_backbone, local_file, prefix_tokens
from .registry import get_model, list_models

__all__ = [
    'PretrainedBackbone',
    'get_model',
    'list_models',
    'load_backbone',
    'load_checkpoint_file',
    'local_file',
    'prefix_tokens',
]
