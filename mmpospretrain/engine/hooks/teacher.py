"""A teacher that follows its student, and whether its features still say anything."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmpospretrain.checks import check_ratio
from mmpospretrain.registry import HOOKS

from .model_access import find, unwrapped
from .scalar_schedule import Schedule


@HOOKS.register_module()
class TeacherHook(Schedule):
    """After every optimizer step, ``teacher ← m · teacher + (1 - m) · student``.

    Called by the optimizer itself: iterations that only accumulate gradients, and steps
    that mixed precision skips, leave the teacher alone. The log shows m as
    ``teacher_momentum``. The teacher is part of the model, which saves and restores it.

    Args:
        teacher: Dotted path of a module in the model.
        student: Dotted path of a module with the same parameters.
        start: m at the first step: what the teacher **keeps**.
        end: m after the last step.
        shape: ``'linear'`` or ``'cosine'``.

    Raises:
        ValueError: If m is not in [0, 1], or, when training starts, if the modules are
            not there or not alike.
    """

    def __init__(
        self,
        teacher: str = 'target_encoder',
        student: str = 'backbone',
        start: float = 0.996,
        end: float = 1.0,
        shape: str = 'linear',
    ) -> None:
        check_ratio('start', start, closed=True)
        check_ratio('end', end, closed=True)
        super().__init__(start, end, shape)
        self.paths = teacher, student

    def before_train(self, runner: Runner) -> None:
        """Find both, and listen to the optimizer."""
        model = unwrapped(runner.model)
        teacher, student = (
            dict(find(model, path, self).named_parameters()) for path in self.paths
        )
        if teacher.keys() != student.keys():
            differing = sorted(teacher.keys() ^ student.keys())
            raise ValueError(
                f'TeacherHook: {" and ".join(self.paths)} do not have the same '
                f'parameters; only one has {", ".join(differing[:5])}'
            )
        self._teacher, self._student = [*teacher.values()], [*student.values()]
        optimizer = runner.optim_wrapper.optimizer
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


@HOOKS.register_module()
class CollapseWatchHook(Hook):
    """Warn when features hardly tell anything apart any more.

    Training by a teacher can end with the same features everywhere, at a small loss.

    Args:
        name: What the model logs of the spread of its features.
        threshold: Warn below.
        interval: Warn again after so many iterations.

    Raises:
        ValueError: In the first iteration, if the model logs no such value.
    """

    def __init__(
        self, name: str = 'target_std', threshold: float = 0.1, interval: int = 1000
    ) -> None:
        self.name = name
        self.threshold = threshold
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
        if value < self.threshold and runner.iter >= self._next:
            self._next = runner.iter + self.interval
            runner.logger.warning(
                f'Collapse? {self.name} is {value:.3g} at iteration {runner.iter + 1}, '
                f'below {self.threshold:g}: features become the same everywhere. Lower '
                'the learning rate, or raise the momentum of the teacher'
            )
