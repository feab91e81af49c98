"""The screen before the first iteration: what is about to run, in a few lines.

MMEngine shows the environment, the whole config and all hooks, some 370 lines. They
stay in the log file.
"""

import logging

import torch
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from .hooks.model_access import unwrapped

MOST_LINES = 5  # of a message on the screen


def is_short(record: logging.LogRecord) -> bool:
    """Filter of the screen: warnings, and what has a few lines."""
    lines = record.getMessage().count('\n') + 1
    return record.levelno >= logging.WARNING or lines <= MOST_LINES


def hide_long_messages(logger: MMLogger) -> None:
    """Keep long messages off the screen until `log_summary`."""
    for handler in _screens(logger):
        handler.addFilter(is_short)


def log_summary(runner: Runner) -> None:
    """Say what is about to run, and show long messages from now on."""
    for handler in _screens(runner.logger):
        handler.removeFilter(is_short)
    runner.logger.info('\n    '.join(['About to run:', *_summary(runner)]))


def _screens(logger: MMLogger) -> list[logging.Handler]:
    return [h for h in logger.handlers if not isinstance(h, logging.FileHandler)]


def _summary(runner: Runner) -> list[str]:
    model = unwrapped(runner.model)
    name = type(model).__name__
    if hasattr(model, 'backbone'):
        name += f' with {type(model.backbone).__name__}'
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    total = sum(size for size, _ in sizes) / 1e6
    trained = sum(size for size, needs_grad in sizes if needs_grad) / 1e6
    training = isinstance(runner._train_loop, BaseLoop)
    lines = [f'model: {name}, {total:.2f} M parameters']
    if training:
        lines[0] += f', {trained:.2f} M of them trained'
        lines += _training(runner)
    for what in ('train', 'val', 'test'):
        loop = getattr(runner, f'_{what}_loop')
        if isinstance(loop, BaseLoop):
            lines.append(f'{what} data: {_images(loop.dataloader)}')
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else 'CPU'
    if runner._load_from:
        lines.append(f'checkpoint: {runner._load_from}')
    return [
        *lines,
        f'device: {runner.world_size} x {device}',
        f'work dir: {runner.work_dir}',
        f'log file: {runner.logger.log_file}, with environment, config and hooks',
    ]


def _training(runner: Runner) -> list[str]:
    loop, wrapper = runner._train_loop, runner.optim_wrapper
    batch, accumulated = loop.dataloader.batch_size, 1
    steps = f'{loop.max_iters} iterations'
    if not isinstance(loop, IterBasedTrainLoop):
        steps = f'{loop.max_epochs} epochs, {steps}'
    lines = [f'schedule: {steps}']
    if optimizer := getattr(wrapper, 'optimizer', None):  # several have no such one
        accumulated = wrapper._accumulative_counts
        # Schedules may have begun with a warm-up.
        rate = max(g.get('initial_lr', g['lr']) for g in optimizer.param_groups)
        kinds = dict.fromkeys(type(s).__name__ for s in runner.param_schedulers or ())
        lines.append(
            f'optimizer: {type(optimizer).__name__}, learning rate {rate:.3g}, by '
            f'{", ".join(kinds) or "no schedule"}'
        )
    if batch:
        whole = batch * runner.world_size * accumulated
        lines.append(
            f'batch: {whole} = {batch} per process x {runner.world_size} processes x '
            f'{accumulated} accumulated'
        )
    return lines


def _images(loader: DataLoader) -> str:
    dataset = loader.dataset
    root = getattr(dataset, 'data_root', None)
    where = f' in {root}' if root else ''
    return f'{len(dataset)} images of {type(dataset).__name__}{where}'
