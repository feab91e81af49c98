"""Positional pre-training for vision transformers; importing it registers everything.

In an environment that cannot work, the import only warns, so that ``python -m
mmpospretrain.doctor``, whose import passes here first, can show what is wrong. Any use
meets the same message as an error, in `mmpospretrain.registry`.
"""

import warnings

from mmpospretrain import environment
from mmpospretrain.version import __version__

__all__ = ['__version__']

try:
    environment.require()
except environment.EnvironmentProblem as problem:
    warnings.warn(str(problem), stacklevel=2)
else:
    environment.prepare()
    from mmpospretrain import datasets, engine, evaluation, models

    __all__ += ['datasets', 'engine', 'evaluation', 'models']
