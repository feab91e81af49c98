"""Runner, hooks and file backend; importing it registers them."""

from . import hooks
from .atomic_backend import AtomicLocalBackend
from .runner import PretrainRunner

__all__ = ['AtomicLocalBackend', 'PretrainRunner', 'hooks']
