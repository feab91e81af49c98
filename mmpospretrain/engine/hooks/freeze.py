"""A part of the model that does not learn at first."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.optim import Optimizer

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import HOOKS

from .model_access import find, unwrapped


@HOOKS.register_module()
class FreezeHook(Hook):
    """For the first epochs, no optimizer step touches some modules, not even by decay.

    DINO does so with its prototypes. Gradients are dropped, not forbidden: a parameter
    that needs none when training starts would be left out of the averaging over GPUs
    for good.

    Args:
        targets: Dotted paths of modules in the model.
        epochs: How many.

    Raises:
        ValueError: If ``epochs`` is negative or, when training starts, if a module is
            not there.
    """

    def __init__(self, targets: list[str], epochs: int = 1) -> None:
        check_at_least('epochs', epochs, 0)
        self.targets = targets
        self.epochs = epochs

    def before_train(self, runner: Runner) -> None:
        """Find the modules, and listen to the optimizer."""
        model = unwrapped(runner.model)
        modules = [find(model, path, self) for path in self.targets]
        parameters = [p for module in modules for p in module.parameters()]

        def drop(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
            if runner.epoch < self.epochs:
                for parameter in parameters:
                    parameter.grad = None

        self._listening = runner.optim_wrapper.optimizer.register_step_pre_hook(drop)

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        self._listening.remove()
