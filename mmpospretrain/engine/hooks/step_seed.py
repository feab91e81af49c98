"""Randomness as a function of seed, rank, epoch and iteration."""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpospretrain.registry import FUNCTIONS, HOOKS

from .model_access import unwrapped

EPOCH, ITERATION, SHARED = range(3)


def derive_seed(*words: int) -> int:
    """One well-mixed seed from several words."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed every epoch's data and every iteration's masks from where training stands.

    MMEngine seeds once, at the start, and saves no generator state: after a resume the
    masks of the first epoch come again. Here nothing needs saving. An epoch seeds
    Python, NumPy and PyTorch, from which data workers take their own seeds; an
    iteration seeds PyTorch, from which masks, noise and stochastic depth are drawn.
    Ranks differ. A model with a ``shared_seed`` gets another one in every iteration,
    the same on all ranks, for what they have to agree on.

    :class:`PretrainRunner` gives the data loader of an epoch-based training the
    :func:`keep_worker_seed` that this needs; ``persistent_workers=True`` still differs
    after a resume, as workers outlive an epoch. An iteration-based training starts its
    workers once: after a resume it sees the images that are due, differently augmented.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed augmentation and data workers."""
        seed = derive_seed(runner.seed, get_rank(), EPOCH, runner.epoch)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002, the transforms use it
        torch.manual_seed(seed)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Seed masks and noise."""
        torch.manual_seed(derive_seed(runner.seed, get_rank(), ITERATION, runner.iter))
        model = unwrapped(runner.model)
        if hasattr(model, 'shared_seed'):
            model.shared_seed = derive_seed(runner.seed, SHARED, runner.iter)


@FUNCTIONS.register_module()
def keep_worker_seed(worker_id: int) -> None:
    """Leave a data worker with the seeds that PyTorch gave it.

    Those follow from the main process, thus from the epoch. MMEngine's own function
    would give a worker the same seed, and the same crops, whenever it starts.
    """
