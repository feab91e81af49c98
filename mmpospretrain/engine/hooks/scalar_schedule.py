"""A number of the model that moves with training: σ of DropPos, EMA momentum, …"""

import math

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmpospretrain.registry import HOOKS

SHAPES = {
    'linear': lambda progress: progress,
    'cosine': lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}


@HOOKS.register_module()
class ScalarScheduleHook(Hook):
    """Set an attribute of the model from the iteration, before every iteration.

    ``start + (end - start) · shape(t / T)`` with t the iteration and T their number:
    Eq. 7 of DropPos when linear. It follows from the iteration alone, so that a resumed
    run continues where it was.

    Args:
        target: Dotted path in the model, e.g. ``'head.loss_module.sigma'``; a number
            or a tensor of one element.
        start: Value at the first iteration.
        end: Value after the last iteration.
        shape: ``'linear'`` or ``'cosine'``.

    Raises:
        ValueError: On an unknown ``shape``, or, when training starts, if the model has
            no such attribute.
    """

    def __init__(
        self, target: str, start: float, end: float, shape: str = 'linear'
    ) -> None:
        if shape not in SHAPES:
            raise ValueError(f'shape must be one of {tuple(SHAPES)}, got {shape!r}')
        self.target = target
        self.start = start
        self.end = end
        self.shape = SHAPES[shape]

    def value(self, iteration: int, num_iterations: int) -> float:
        """Value before iteration ``iteration`` of ``num_iterations``."""
        progress = iteration / num_iterations
        return self.start + (self.end - self.start) * self.shape(progress)

    def before_train(self, runner: Runner) -> None:
        """Find the target, so that a wrong path fails before the first step."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        path, _, self._name = self.target.rpartition('.')
        try:
            self._owner = model.get_submodule(path)
            getattr(self._owner, self._name)
        except AttributeError as error:
            raise ValueError(
                f'ScalarScheduleHook: {type(model).__name__} has no '
                f'{self.target!r} ({error})'
            ) from error

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set the target."""
        value = self.value(runner.iter, runner.max_iters)
        target = getattr(self._owner, self._name)
        if isinstance(target, torch.Tensor):
            target.fill_(value)
        else:
            setattr(self._owner, self._name, value)
