"""MMEngine's runner, with what users of a pre-training were missing."""

import logging
import math
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import BaseOptimWrapper, OptimWrapper
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn

from mmpospretrain.checks import check_choice
from mmpospretrain.datasets.skipping import skip_broken_in_loader, take_shares
from mmpospretrain.registry import RUNNERS, builds
from mmpospretrain.zoo.checkpoint_state import drop_foreign_files, give_back

from .config_check import check_config
from .hooks.model_access import unwrapped
from .hooks.step_seed import StepSeedHook
from .log_file import complete_log_file
from .resume import (
    checkpoint_folder,
    find_checkpoint,
    lies_in,
    restore,
    saved_checkpoints,
)
from .start_summary import hide_long_messages, log_summary

LR_RULES = {'linear': lambda ratio: ratio, 'sqrt': math.sqrt}


@RUNNERS.register_module()
class PretrainRunner(Runner):
    """MMEngine's ``Runner``, differing where it would fail late or keep quiet.

    - Misspelt keys and a work dir that can't be written are errors at once.
    - The learning rate scales with the batch of an *optimizer step*: images per GPU ×
      GPUs × gradient accumulation; ``auto_scale_lr`` has a ``rule``, ``'linear'`` or
      ``'sqrt'``. The log shows the sum.
    - Data workers of an epoch-based training get seeds that follow from the epoch;
      MMEngine gives them the same in every epoch, hence the same augmentation.
    - A work dir in use is told of before its checkpoints are replaced, and a resumed
      training that has nothing left to do says so.
    - A resume finds the newest whole checkpoint of the work dir, and follows the config
      where it differs from the checkpoint's (:mod:`mmpospretrain.engine.resume`).
    - A data set smaller than a batch is an error, not a training of nothing; one of so
      few batches that the warm-up vanishes is told so.
    - Images that cannot be read are skipped and counted, in fine-tunings too; data sets
      of all kinds take ``max_broken_share``. See :func:`skip_broken_images`.
    - The log counts parameters that are not trained instead of naming each, and the
      screen has a summary where the log file has everything.
    - Distributed training runs on CPUs too, through gloo, and SyncBN is BN there.
    """

    @classmethod
    def from_cfg(cls, cfg: dict) -> 'PretrainRunner':
        """Build from a config, once it is known to be sound."""
        check_config(cfg)
        check_writable(cfg['work_dir'])
        return super().from_cfg(cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As upstream, whose handlers fail at what is not UTF-8, as a file's name.

        What is long stays off the screen until all is built.
        """
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(stream := getattr(handler, 'stream', None), TextIOWrapper):
                stream.reconfigure(errors='backslashreplace')
        complete_log_file(logger)
        hide_long_messages(logger)
        return logger

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """As upstream, after a summary of what is about to run."""
        if fn_name == 'before_run':
            log_summary(self)
        super().call_hook(fn_name, **kwargs)

    def load_or_resume(self) -> None:
        """As upstream, and tell of what the user may not have meant.

        Raises:
            ValueError: If the work dir has checkpoints of which none is whole.
        """
        if self._resume and self._load_from is None and not self._has_loaded:
            if latest := find_checkpoint(self):
                self.logger.info(f'Auto resumed from the latest checkpoint {latest}.')
                self.resume(str(latest))
        else:
            super().load_or_resume()
        if not isinstance(self._train_loop, BaseLoop):
            return  # a test
        elsewhere = self._load_from and not lies_in(
            Path(self._load_from), checkpoint_folder(self)
        )
        if (not self._resume or elsewhere) and (kinds := saved_checkpoints(self)):
            self.logger.warning(
                f'{kinds[0][0]} is of an earlier training, whose checkpoints '
                'this one will replace: --resume goes on with it, another --work-dir '
                'keeps it'
            )
        if self._resume and self.iter >= self.max_iters:
            self.logger.warning(
                f'Nothing is left to do: {self.iter} of {self.max_iters} iterations '
                'are done; for more, raise max_epochs or max_iters of train_cfg, and '
                'the end of the last schedule in param_scheduler if it has one: it is '
                'then planned anew'
            )

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As upstream, which runs and deletes what a checkpoint tells it to."""
        checkpoint = super().load_checkpoint(*args, **kwargs)
        give_back(checkpoint)
        drop_foreign_files(checkpoint, checkpoint_folder(self))
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'default',
    ) -> None:
        """As upstream, where the checkpoint overrides the config; here the config wins.

        Raises:
            ValueError: If the checkpoint can't be gone on with as the config asks.
        """
        if map_location == 'default':
            map_location = get_device()
        checkpoint = self.load_checkpoint(filename, map_location=map_location)
        if not resume_optimizer:
            checkpoint.pop('optimizer', None)
        if not resume_param_scheduler:
            checkpoint.pop('param_schedulers', None)
        if not isinstance(self.optim_wrapper, OptimWrapper):
            self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        restore(self, checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f'resumed epoch: {self.epoch}, iter: {self.iter}')

    def save_checkpoint(self, *args, meta: dict | None = None, **kwargs) -> None:
        """As upstream, with what a resume elsewhere has to know."""
        known = dict(processes=self.world_size)
        if isinstance(self.train_loop, EpochBasedTrainLoop):
            known['epoch_length'] = len(self.train_dataloader)
        super().save_checkpoint(*args, meta={**known, **(meta or {})}, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """As upstream; without a GPU, processes talk through gloo."""
        if self.distributed and not torch.cuda.is_available():
            init_gloo(self.launcher)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As upstream, which gives a CPU module a GPU's number and a SyncBN."""
        if not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        if self.distributed and not torch.cuda.is_available():
            model_wrapper_cfg = {
                'device_ids': None,
                'broadcast_buffers': False,
                **(model_wrapper_cfg or {}),
            }
        return super().wrap_model(model_wrapper_cfg, model)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As upstream, which would repeat the augmentation of the first epoch in all
        others, and train zero iterations without a word.
        """
        loader = self._train_dataloader
        # Workers then have seeds of the main process, which without the hook are the
        # same on all ranks.
        if (
            isinstance(loop, dict)
            and isinstance(loader, dict)
            and loop.get('by_epoch', builds(loop, EpochBasedTrainLoop, LOOPS))
            and any(isinstance(hook, StepSeedHook) for hook in self.hooks)
        ):
            keep = dict(type='mmpospretrain.keep_worker_seed')
            loader.setdefault('worker_init_fn', keep)
        shares = take_shares(loader)
        loop = super().build_train_loop(loop)
        loader = loop.dataloader
        skip_broken_in_loader(loader, 'train_dataloader', shares)
        if len(loader) == 0:
            raise ValueError(
                f'{len(loader.sampler)} images make no batch of {loader.batch_size} in '
                'each process; lower it with --cfg-options train_dataloader.batch_size'
            )
        return loop

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As upstream, and skip what cannot be read."""
        shares = take_shares(self._val_dataloader)
        loop = super().build_val_loop(loop)
        skip_broken_in_loader(loop.dataloader, 'val_dataloader', shares)
        return loop

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As upstream, and skip what cannot be read."""
        shares = take_shares(self._test_dataloader)
        loop = super().build_test_loop(loop)
        skip_broken_in_loader(loop.dataloader, 'test_dataloader', shares)
        return loop

    def build_param_scheduler(self, scheduler: dict | list) -> list | dict:
        """As upstream, whose message does not say what is too short, or why."""
        try:
            return super().build_param_scheduler(scheduler)
        except ValueError as error:
            if 'end should be larger than begin' not in str(error):
                raise
            raise ValueError(
                f'a schedule of param_scheduler is shorter than an iteration, with '
                f'{len(self.train_dataloader)} iterations in an epoch ({error}): lower '
                'train_dataloader.batch_size, or give the warm-up a later end with '
                '--cfg-options param_scheduler.0.end'
            ) from error

    def build_optim_wrapper(
        self, optim_wrapper: OptimWrapper | dict
    ) -> OptimWrapper | BaseOptimWrapper:
        """As upstream, which logs a line or two for every parameter."""
        self.logger.addFilter(says_more_than_a_parameter)
        try:
            return super().build_optim_wrapper(optim_wrapper)
        finally:
            self.logger.removeFilter(says_more_than_a_parameter)
            model = unwrapped(self.model)
            frozen = Counter(
                name.partition('.')[0]
                for name, parameter in model.named_parameters()
                if not parameter.requires_grad
            )
            if frozen:
                parts = (f'{name} ({count})' for name, count in frozen.items())
                self.logger.info(f'Parameters that are not trained: {", ".join(parts)}')

    def _maybe_compile(self, target: str) -> None:
        """Compile the forward pass; upstream's whole step includes the optimizer's,
        which PyTorch's compiler gives up on.
        """
        super()._maybe_compile('forward')

    def scale_lr(
        self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None
    ) -> None:
        """Scale the base learning rate to the global batch of an optimizer step.

        Raises:
            ValueError: If ``auto_scale_lr.rule`` is unknown.
        """
        if not (auto_scale_lr and auto_scale_lr.get('enable')):
            return
        rule = auto_scale_lr.get('rule', 'linear')
        check_choice('auto_scale_lr.rule', rule, LR_RULES)
        loader = self._train_dataloader
        per_gpu = (
            loader['batch_size'] if isinstance(loader, dict) else loader.batch_size
        )
        accumulation = optim_wrapper._accumulative_counts
        base = auto_scale_lr['base_batch_size']
        batch = per_gpu * self.world_size * accumulation
        factor = LR_RULES[rule](batch / base)
        base_lr = optim_wrapper.optimizer.defaults['lr']
        for group in optim_wrapper.param_groups:
            group['lr'] *= factor
        images = per_gpu * self.world_size  # of an iteration, accumulated or not
        if images != base and isinstance(self._train_loop, IterBasedTrainLoop):
            self.logger.warning(
                f'This schedule counts iterations of {base} images, and those of this '
                f'run have {images}: it will see {images / base:.3g} times the images '
                'of its recipe. Change train_dataloader.batch_size or the number of '
                'processes, or multiply max_iters and every begin, end and milestone '
                f'by {base / images:.3g}'
            )
        ratio = (
            f'global batch {batch} (= {per_gpu} per process x {self.world_size} '
            f'processes x {accumulation} accumulated) / {base}'
        )
        self.logger.info(
            f'Learning rate: {base_lr:.3e} per {base} images x '
            f'{ratio if rule == "linear" else f"{rule}({ratio})"} '
            f'= {base_lr * factor:.3e} ({rule} rule)'
        )


def says_more_than_a_parameter(record: logging.LogRecord) -> bool:
    """Filter of what MMEngine's optimizer constructor logs."""
    message = record.getMessage()
    return not (
        message.startswith('paramwise_options --')
        or message.endswith('is skipped since its requires_grad=False')
    )


def init_gloo(launcher: str) -> None:
    """Join the process group of a CPU job; MMEngine's launchers insist on a GPU."""
    if torch.distributed.is_initialized():
        return
    if launcher == 'slurm':
        env = os.environ
        nodes = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
        first = subprocess.run(nodes, capture_output=True, text=True, check=True)
        env.setdefault('MASTER_ADDR', first.stdout.split()[0])
        env.setdefault('MASTER_PORT', '29500')
        env['RANK'] = env['SLURM_PROCID']
        env['LOCAL_RANK'] = env['SLURM_LOCALID']
        env['WORLD_SIZE'] = env['SLURM_NTASKS']
    torch.distributed.init_process_group('gloo')


def check_writable(work_dir: str) -> None:
    """Fail before training if nothing can be saved.

    Raises:
        ValueError: If ``work_dir`` can't be made or written.
    """
    try:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise ValueError(
            f'cannot write to the work dir {work_dir!r} ({error}); '
            'give another one with --work-dir'
        ) from error
