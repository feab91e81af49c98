"""Numbers that move with training: σ of DropPos, weight decay, EMA momentum, …"""

import math

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmpospretrain.checks import check_choice
from mmpospretrain.registry import HOOKS

from .model_access import find, unwrapped

SHAPES = {
    'linear': lambda progress: progress,
    'cosine': lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}


class Schedule(Hook):
    """Base of the schedules.

    ``start + (end - start) · shape(t / T)``, with t the optimizer steps taken and T
    their number. It follows from the iteration alone, so that a resumed run continues
    where it was; and iterations whose gradients are accumulated share one value. It
    never leaves the range from ``start`` to ``end``.

    Args:
        start: Value at the first step.
        end: Value after the last step.
        shape: ``'linear'`` or ``'cosine'``.

    Raises:
        ValueError: On an unknown ``shape``.
    """

    def __init__(self, start: float, end: float, shape: str = 'linear') -> None:
        check_choice('shape', shape, SHAPES)
        self.start = start
        self.end = end
        self.shape = SHAPES[shape]

    def value(self, step: int, num_steps: int) -> float:
        """Value before step ``step`` of ``num_steps``."""
        progress = min(max(step / num_steps, 0.0), 1.0)
        return self.start + (self.end - self.start) * self.shape(progress)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Set what is scheduled."""
        accumulated = runner.optim_wrapper._accumulative_counts
        num_steps = math.ceil(runner.max_iters / accumulated)
        self.set(runner, self.value(runner.iter // accumulated, num_steps))

    def set(self, runner: Runner, value: float) -> None:
        """Set what is scheduled to ``value``."""
        raise NotImplementedError


@HOOKS.register_module()
class ScalarScheduleHook(Schedule):
    """Schedule an attribute of the model; Eq. 7 of DropPos when linear.

    Args:
        target: Dotted path in the model, e.g. ``'head.loss_module.sigma'``; a number
            or a tensor of one element.
        start: As of :class:`Schedule`, and so on.
        end: Value after the last step.
        shape: ``'linear'`` or ``'cosine'``.

    Raises:
        ValueError: On an unknown ``shape``, or, when training starts, if the model has
            no such attribute, or one whose ``check_<name>`` refuses start or end.
    """

    def __init__(
        self, target: str, start: float, end: float, shape: str = 'linear'
    ) -> None:
        super().__init__(start, end, shape)
        self.target = target

    def before_train(self, runner: Runner) -> None:
        """Find the target, so that a wrong path fails before the first step."""
        model = unwrapped(runner.model)
        find(model, self.target, self)
        path, _, self._name = self.target.rpartition('.')
        self._owner: nn.Module = find(model, path, self)
        if check := getattr(self._owner, f'check_{self._name}', None):
            for value in (self.start, self.end):
                check(value)

    def set(self, runner: Runner, value: float) -> None:
        """Set the target."""
        target = getattr(self._owner, self._name)
        if isinstance(target, torch.Tensor):
            target.fill_(value)
        else:
            setattr(self._owner, self._name, value)


@HOOKS.register_module()
class WeightDecayScheduleHook(Schedule):
    """Schedule the weight decay: .04 → .4 by a cosine in I-JEPA.

    Parameters with a multiplier of their own, such as none for norms and biases, keep
    it. The log shows the value as ``weight_decay``.

    Args:
        start: As of :class:`Schedule`, and so on.
        end: Value after the last step.
        shape: ``'linear'`` or ``'cosine'``.

    Raises:
        ValueError: On an unknown ``shape``, or, when training starts, if the optimizer
            has no weight decay to be scheduled.
    """

    def before_run(self, runner: Runner) -> None:
        """Note the multipliers, before a resume brings back scheduled values."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # validation or a test, which trains nothing
        optimizer = runner.optim_wrapper.optimizer
        base = optimizer.defaults.get('weight_decay')
        if not base:
            raise ValueError(
                'WeightDecayScheduleHook: the weight decay of '
                f'{type(optimizer).__name__} is {base}, which leaves no multipliers '
                f'to keep; set optim_wrapper.optimizer.weight_decay={self.start}'
            )
        self._multipliers = [
            group['weight_decay'] / base for group in optimizer.param_groups
        ]

    def set(self, runner: Runner, value: float) -> None:
        """Set the weight decay of all groups."""
        groups = runner.optim_wrapper.optimizer.param_groups
        for group, multiplier in zip(groups, self._multipliers, strict=True):
            group['weight_decay'] = value * multiplier
        runner.message_hub.update_scalar('train/weight_decay', value)
