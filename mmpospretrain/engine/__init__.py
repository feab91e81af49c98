"""Runner, hooks and file backend; importing it registers them."""

from . import hooks
from .atomic_backend import AtomicLocalBackend
from .layer_decay import LayerDecayConstructor
from .merged_groups import MergedGroupsConstructor
from .runner import PretrainRunner

__all__ = [
    'AtomicLocalBackend',
    'LayerDecayConstructor',
    'MergedGroupsConstructor',
    'PretrainRunner',
    'hooks',
]
