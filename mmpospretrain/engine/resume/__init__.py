"""Going on with a training: where from, and what is not as it was.

A checkpoint holds what its training was told, learning rates and schedules for example,
and MMEngine lets that win over the config, without a word. Here the config wins. What
differs is compared in one place, `restore`: it takes effect, and the log says so in one
line, or it is refused with the way to do it.
"""

from .checkpoints import checkpoint_folder, find_checkpoint, lies_in, saved_checkpoints
from .restore import restore

__all__ = [
    'checkpoint_folder',
    'find_checkpoint',
    'lies_in',
    'restore',
    'saved_checkpoints',
]
