"""A part of the model that does not learn at first."""

from fnmatch import filter as matching

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.optim import Optimizer

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import HOOKS

from ..config_check import did_you_mean
from .model_access import unwrapped


@HOOKS.register_module()
class FreezeHook(Hook):
    """For the first epochs, no optimizer step touches some modules, not even by decay.

    DINO does so with its prototypes. Gradients are dropped, not forbidden: a parameter
    that needs none when training starts would be left out of the averaging over GPUs
    for good. They still count in the norm by which gradients are clipped.

    Args:
        targets: Names of modules in the model, or patterns of names, in which ``*``
            stands for anything, dots included: ``'heads.*.prototypes'``.
        epochs: How many.

    Raises:
        ValueError: If ``epochs`` is negative or, when training starts, if a pattern
            matches no module.
    """

    def __init__(self, targets: list[str], epochs: int = 1) -> None:
        check_at_least('epochs', epochs, 0)
        self.targets = targets
        self.epochs = epochs

    def before_train(self, runner: Runner) -> None:
        """Find the modules, and listen to the optimizer."""
        model = unwrapped(runner.model)
        modules = dict(model.named_modules(remove_duplicate=False))
        parameters = set()
        for pattern in self.targets:
            names = matching(modules, pattern)
            if not names:
                parts = ', '.join(dict(model.named_children()))
                hint = did_you_mean(pattern, modules) or f'its parts are {parts}'
                raise ValueError(
                    f'FreezeHook: no module of {type(model).__name__} matches '
                    f'{pattern!r}; {hint}'
                )
            parameters.update(p for name in names for p in modules[name].parameters())

        def drop(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
            if runner.epoch < self.epochs:
                for parameter in parameters:
                    parameter.grad = None

        self._listening = runner.optim_wrapper.optimizer.register_step_pre_hook(drop)

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        self._listening.remove()
