"""A teacher that follows its student, and whether its features still say anything."""

import math
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmpospretrain.checks import check_ratio
from mmpospretrain.models.losses.distillation import TeacherTargets
from mmpospretrain.registry import HOOKS

from .model_access import find, unwrapped
from .scalar_schedule import Schedule


@HOOKS.register_module()
class TeacherHook(Schedule):
    """After every optimizer step, ``teacher ← m · teacher + (1 - m) · student``.

    Called by the optimizer itself: iterations that only accumulate gradients, and steps
    that mixed precision skips, leave the teacher alone. The log shows m as
    ``teacher_momentum``. The teacher is part of the model, which saves and restores it.

    The centers of the model's :class:`TeacherTargets` move at the same time.

    Args:
        teacher: Dotted path of a module in the model, or a list of them.
        student: Dotted path of a module with the same parameters, or a list: the first
            teacher follows the first student, and so on.
        start: m at the first step: what the teacher **keeps**.
        end: m after the last step.
        shape: ``'linear'`` or ``'cosine'``.

    Raises:
        ValueError: If m is not in [0, 1] or a teacher has no student or the other way
            round; when training starts, if the modules are not there or not alike.
    """

    def __init__(
        self,
        teacher: str | Sequence[str] = 'target_encoder',
        student: str | Sequence[str] = 'backbone',
        start: float = 0.996,
        end: float = 1.0,
        shape: str = 'linear',
    ) -> None:
        check_ratio('start', start, closed=True)
        check_ratio('end', end, closed=True)
        super().__init__(start, end, shape)
        self.momentum = start  # until a training sets it
        teachers, students = (
            [paths] if isinstance(paths, str) else paths for paths in (teacher, student)
        )
        if not len(teachers) == len(students) > 0:
            raise ValueError(
                'TeacherHook: every teacher needs a student of its own, got '
                f'teacher={teacher!r} and student={student!r}'
            )
        self.pairs = [*zip(teachers, students, strict=True)]

    def before_train(self, runner: Runner) -> None:
        """Listen to the optimizer of the training."""
        self.listen(unwrapped(runner.model), runner.optim_wrapper.optimizer)

    def listen(self, model: nn.Module, optimizer: Optimizer) -> None:
        """From now on, let the teachers of a model follow every optimizer step.

        Raises:
            ValueError: If the modules are not there or not alike.
        """
        self._teacher, self._student = [], []
        for paths in self.pairs:
            teacher, student = (
                dict(find(model, path, self).named_parameters()) for path in paths
            )
            has, wants = (
                {f'{name} {tuple(p.shape)}' for name, p in parameters.items()}
                for parameters in (teacher, student)
            )
            if unlike := sorted(has ^ wants):
                raise ValueError(
                    f'TeacherHook: {" and ".join(paths)} do not have the same '
                    f'parameters; only one has {", ".join(unlike[:5])}'
                )
            self._teacher += teacher.values()
            self._student += (student[name] for name in teacher)
        self._targets = [m for m in model.modules() if isinstance(m, TeacherTargets)]
        self._listening = optimizer.register_step_post_hook(self._follow)

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        self._listening.remove()

    def set(self, runner: Runner, value: float) -> None:
        """Set m."""
        self.momentum = value
        runner.message_hub.update_scalar('train/teacher_momentum', value)

    def _follow(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        # A fused optimizer is called even for a step to be skipped, and told so.
        found_inf = getattr(optimizer, 'found_inf', None)
        if found_inf is None or not found_inf.item():
            get_ema_multi_avg_fn(self.momentum)(self._teacher, self._student, None)
            for targets in self._targets:
                targets.follow()


@HOOKS.register_module()
class CollapseWatchHook(Hook):
    """Warn when the teacher hardly tells images apart any more.

    Training by a teacher can end with the same answer to every image, at a small loss.

    Args:
        name: What the model logs of its features or targets, e.g. their spread.
        below: Warn below this value.
        above: Warn above this value.
        interval: Warn again after so many iterations.

    Raises:
        ValueError: If there is no limit, or nothing between the two; in the first
            iteration, if the model logs no such value.
    """

    def __init__(
        self,
        name: str,
        below: float | None = None,
        above: float | None = None,
        interval: int = 1000,
    ) -> None:
        self.low = -math.inf if below is None else below
        self.high = math.inf if above is None else above
        if (below is None and above is None) or not self.low < self.high:
            raise ValueError(
                f'CollapseWatchHook: {name!r} needs a limit, below or above, or both '
                f'with below < above; got {below=}, {above=}'
            )
        self.name = name
        self.interval = interval
        self._next = 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Look at the value."""
        if self.name not in outputs:
            raise ValueError(
                f'CollapseWatchHook: the model logs no {self.name!r}, '
                f'but {sorted(outputs)}'
            )
        value = float(outputs[self.name])
        if value < self.low:
            limit = f'below {self.low:g}'
        elif value > self.high:
            limit = f'above {self.high:g}'
        else:
            return
        if runner.iter >= self._next:
            self._next = runner.iter + self.interval
            runner.logger.warning(
                f'Collapse? {self.name} is {value:.3g} at iteration {runner.iter + 1}, '
                f'{limit}: the teacher may hardly tell images apart. Lower the '
                'learning rate, or raise the momentum of the teacher'
            )
