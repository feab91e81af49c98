"""How fast, and in how much memory?"""

import resource
import sys

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpospretrain.registry import HOOKS


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log images per second over all ranks and, on a CPU, the peak memory in MB.

    MMEngine logs peak memory itself where there is a GPU.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Update the log; runs after ``IterTimerHook``."""
        hub = runner.message_hub
        images = len(data_batch['data_samples']) * get_world_size()
        seconds = hub.get_scalar('train/time').current()
        hub.update_scalar('train/images_per_s', images / seconds)
        if not torch.cuda.is_available():
            unit = 2**20 if sys.platform == 'darwin' else 2**10  # bytes there, KiB here
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
            hub.update_scalar('train/memory', int(peak))
