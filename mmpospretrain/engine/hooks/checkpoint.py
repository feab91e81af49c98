"""Checkpoints of which the last is whole at any moment."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmpospretrain.registry import HOOKS

from ..atomic_backend import AtomicLocalBackend


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's hook, which deletes before it writes, and writes a pointer in place.

    Here the outdated checkpoint goes when the new one is there, and ``last_checkpoint``
    is replaced in one step, as checkpoints are with
    ``backend_args=dict(backend='atomic')``.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leave out the functions of schedules such as OneCycleLR: they follow from the
        config, and what is read safely holds none.
        """
        states = checkpoint.get('param_schedulers') or []
        if isinstance(states, dict):  # of several optimizers
            states = [state for several in states.values() for state in several]
        for state in states:
            for key in [k for k, v in state.items() if callable(v)]:
                del state[key]

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', [*self.keep_ckpt_ids])
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        pointer = Path(runner.work_dir, 'last_checkpoint')
        AtomicLocalBackend().put_text(self.last_ckpt, pointer)
        if outdated is not None:
            path = self.file_backend.join_path(
                self.out_dir, self.filename_tmpl.format(outdated)
            )
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
