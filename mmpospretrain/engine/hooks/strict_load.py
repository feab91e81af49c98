"""Refuse the checkpoint of another model."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpospretrain.registry import HOOKS
from mmpospretrain.zoo.loading import check_state_dict, state_dict_of

from .model_access import unwrapped


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Make ``load_from``, ``--resume`` and testing take all weights, or none.

    MMEngine warns about keys that do not fit, and goes on with what it has.

    Raises:
        ValueError: Lists missing and unexpected keys, and both shapes of mismatches,
            before any weight is copied.
    """

    priority = 'LOWEST'  # other hooks may still rearrange the checkpoint

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights; MMEngine calls this before it copies them."""
        run = checkpoint.get('meta', {}).get('experiment_name')
        source = f'what was loaded (run {run!r})' if run else 'what was loaded'
        check_state_dict(unwrapped(runner.model), state_dict_of(checkpoint), source)
