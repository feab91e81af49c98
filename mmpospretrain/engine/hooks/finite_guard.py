"""Stop at the first number that is none, before it reaches a checkpoint."""

import math

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpospretrain.registry import HOOKS


@HOOKS.register_module()
class FiniteGuardHook(Hook):
    """Raise as soon as a loss, or a weight about to be saved, is NaN or infinite.

    Training on after a NaN loses days, and saving it loses the checkpoint too.
    MMEngine reads every loss back in each iteration anyway; a look costs nothing.

    Raises:
        FloatingPointError: With the name, the iteration, and the way on.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Check every value that the model logs."""
        numbers = {
            name: value.item() if isinstance(value, torch.Tensor) else value
            for name, value in (outputs or {}).items()
        }
        # `loss` is a sum, and the first: the part that made it so has to be told too.
        wrong = [f'{k} is {v}' for k, v in numbers.items() if not math.isfinite(v)]
        if wrong:
            self._stop(runner, ', '.join(wrong))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check every weight."""
        for name, tensor in checkpoint['state_dict'].items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                self._stop(runner, f'weight {name} has NaN or infinite values')

    @staticmethod
    def _stop(runner: Runner, reason: str) -> None:
        raise FloatingPointError(
            f'{reason} at iteration {runner.iter + 1} (epoch {runner.epoch + 1}). The '
            f'checkpoints in {runner.work_dir} are from before; lower the learning '
            'rate, clip gradients (optim_wrapper.clip_grad) or use --amp bfloat16 '
            'instead of float16, and go on with --resume.'
        )
