"""What the command line tools share: configs, data folders, readable errors."""

import argparse
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.registry import DATASETS, HOOKS, MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmpospretrain.datasets import ImageFolder, resolve_image_source
from mmpospretrain.datasets.labelled import (
    LOADERS,
    check_layout,
    labelled_datasets,
    set_data_root,
)
from mmpospretrain.datasets.skipping import skip_broken_in_loader, take_shares
from mmpospretrain.environment import STACKS, installed_stacks, version_of
from mmpospretrain.models import PositionViT
from mmpospretrain.registry import builds, registered
from mmpospretrain.version import __version__
from mmpospretrain.zoo import local_file, prefix_tokens
from mmpospretrain.zoo.loading import load_strict
from mmpospretrain.zoo.pretrained import READ_BY, pretrained_options

from .config_check import check_cfg_options, check_option_values
from .config_faults import fault
from .hooks import KNNHook

# Options that say how a checkpoint is read; without one, `set_pretrained` drops them.
HOW_TO_READ = tuple(f'model.backbone.init_cfg.{option}' for option in READ_BY)
PREFIX_TOKENS = dict(with_cls_token=True, num_registers=0)  # unless a config says so


def load_config(path: str, options: dict | None = None) -> Config:
    """Read a config and merge ``--cfg-options``, misspelt ones being errors.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If an option names nothing that the config or its classes know, or
            has a value that cannot be meant; if the config cannot be read.
    """
    if '::' not in path and not Path(path).is_file():
        raise FileNotFoundError(f'there is no config {path!r}')
    try:  # `::` is of another library: mmpretrain::mae/…
        cfg = get_config(path) if '::' in path else Config.fromfile(path)
    except Exception as error:  # a config is code: anything may go wrong in it
        raise ValueError(f'the config {path} cannot be read: {fault(error)}') from error
    if options:
        check_cfg_options(cfg, options)
        cfg.merge_from_dict(options)
        check_option_values(cfg, options)
    return cfg


def read_options(pairs: Sequence[str] | None) -> dict:
    """What ``--cfg-options`` was given, ``KEY=VALUE`` each, as MMEngine reads it.

    Tools take the strings: MMEngine's own action would have them import it, for
    seconds, before they can show their help.

    Raises:
        ValueError: If one is no ``KEY=VALUE``, or a bracket in it is left open.
    """
    options = argparse.Namespace(pairs={})
    read = DictAction(['--cfg-options'], dest='pairs', nargs='+')
    for pair in pairs or ():
        key, equals, _ = pair.partition('=')
        if not key or not equals:
            raise ValueError(
                f'--cfg-options takes KEY=VALUE without spaces around =, got {pair!r}'
            )
        try:
            read(None, options, [pair])
        except AssertionError as error:
            raise ValueError(f'--cfg-options {pair}: {error}') from error
    return options.pairs


def set_work_dir(cfg: Config, config: str, work_dir: str | None) -> None:
    """``--work-dir``, else the config's own, else ``work_dirs/<config name>``."""
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'work_dirs/{Path(config).stem}'


def set_loader_defaults(cfg: Config, pin_memory: bool = True) -> None:
    """Pinned memory where there is a GPU; keep workers only where that is asked."""
    for name in LOADERS:
        if cfg.get(name):
            cfg[name].setdefault('pin_memory', pin_memory and torch.cuda.is_available())
            if cfg[name].get('num_workers', 0) == 0:
                cfg[name]['persistent_workers'] = False


def set_data(cfg: Config, source: str) -> None:
    """Point the data loaders of a config at other data.

    Pre-training takes a folder or a list file: ``train/`` and ``val/`` inside the
    folder are found; without a ``val/`` there is no validation. Fine-tuning, and
    pre-training on CIFAR, take a folder with the layout that their data set expects.

    Raises:
        ValueError: If there is no image in ``source``.
        FileNotFoundError: If there is nothing at ``source``.
    """
    scope = cfg.get('default_scope')
    if all(
        registered(dataset.type, DATASETS, scope) is not ImageFolder
        for dataset in labelled_datasets(cfg)
    ):
        set_data_root(cfg, source)
        return
    train, val = resolve_image_source(source)
    set_knn_data(cfg, source, cfg.train_dataloader.dataset.get('data_root'))
    for name, images in zip(LOADERS, (train, val, val), strict=True):
        if not cfg.get(name):
            continue
        if images:
            cfg[name].dataset.update(images)
    if val is None:
        drop_validation(cfg)
        print_log(
            f'{source} has no val/: training goes without validation',
            logger='current',
            level=logging.WARNING,
        )


def set_knn_data(cfg: Config, source: str, old: str | None) -> None:
    """Point kNN that used labels of the old data at those of the new, or do without.

    kNN on data of its own stays.
    """
    hooks = cfg.get('custom_hooks') or []
    for hook in [h for h in hooks if builds(h, KNNHook, HOOKS)]:
        moved = [d for d in (hook.train, hook.val) if d.get('data_root') == old]
        for dataset in moved:
            dataset.data_root = source
        parts = ((d, d.get('ann_file') or d.get('data_prefix') or '') for d in moved)
        paths = (Path(d.data_root, part) for d, part in parts)
        if missing := [path for path in paths if not path.exists()]:
            hooks.remove(hook)
            print_log(
                f'there is no {missing[0]}: training goes without kNN accuracy',
                logger='current',
                level=logging.WARNING,
            )


def set_pretrained(cfg: Config, checkpoint: str) -> None:
    """Start the backbone of a fine-tuning from a checkpoint, or ``'none'``: scratch.

    How it is read, ``prefix``, ``source_grid`` and ``map_location`` of the config's
    ``init_cfg``, stays.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or the model has no backbone.
    """
    if not cfg.get('model', {}).get('backbone'):
        raise ValueError('--pretrained: this config has no model.backbone to start')
    backbone = cfg.model.backbone
    if checkpoint == 'none':
        backbone.init_cfg = None
        return
    if '://' not in checkpoint:
        local_file(checkpoint)
    backbone.init_cfg = dict(
        **pretrained_options(backbone),
        type='mmpospretrain.PretrainedBackbone',
        checkpoint=checkpoint,
    )
    match_prefix_tokens(cfg, checkpoint)


def match_prefix_tokens(cfg: Config, checkpoint: str) -> None:
    """Give the backbone of a fine-tuning [CLS] and registers as its checkpoint has.

    Only where the config leaves it open. It serves checkpoints of pre-trainings and of
    fine-tunings alike.
    """
    backbone = cfg.model.get('backbone', {})
    if (
        registered(backbone.get('type'), MODELS) is PositionViT
        and 'init_cfg' in backbone
        and not PREFIX_TOKENS.keys() <= backbone.keys()
    ):
        for option, value in prefix_tokens(checkpoint).items():
            backbone.setdefault(option, value)


def set_test_data(cfg: Config, config: str, source: str | None) -> None:
    """Point a config that is to be tested at other data, if there is any.

    Raises:
        ValueError: If the config has no test, or ``source`` no images for it.
        FileNotFoundError: As `set_data`, or if the config's own data is not there.
    """
    if not cfg.get('test_dataloader'):
        raise ValueError(
            f'{config} has no test_dataloader: give the config that was trained with; '
            'the copy in a work dir lacks it if training went without validation, and '
            'features are tested by tools/linear_probe.py'
        )
    if source:
        set_data(cfg, source)
    if not cfg.get('test_dataloader'):
        raise ValueError(
            'a folder needs train/ and val/ side by side: there is no val/ to test on '
            f'in {source}'
        )
    check_layout(cfg, ['test_dataloader'])
    set_loader_defaults(cfg)


def drop_validation(cfg: Config) -> None:
    """Train without a validation loop."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None


def build_runner(cfg: Config) -> Runner:
    """The runner that the config asks for, MMEngine's by default.

    Raises:
        ValueError: If the config is a part that names no model, or as the runner.
    """
    if not cfg.get('model') or 'type' not in cfg.model:
        raise ValueError(
            f'{cfg.filename} has no model.type: put it over a whole config, with '
            "_base_ = 'mmdet::…' or a file of configs/"
        )
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def build_test_loader(cfg: Config) -> DataLoader:
    """The loader of the test images, which skips and counts what cannot be read."""
    shares = take_shares(cfg.test_dataloader)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    skip_broken_in_loader(loader, 'test_dataloader', shares)
    return loader


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """The model of a config with all the weights of a checkpoint, to be evaluated.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it belongs to another model.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    match_prefix_tokens(cfg, checkpoint)
    model_cfg = {'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}
    model = MODELS.build(model_cfg).to(get_device())
    remote = '://' in checkpoint
    load_strict(model, local_file(checkpoint) if remote else checkpoint)
    return model.eval()


def results_folder(out: Path | None, checkpoint: str) -> Path:
    """Where results go: ``--out-dir``, or the folder of a checkpoint; it is made.

    Those of an address, which has no folder, go to ``work_dirs/NAME``.

    Raises:
        ValueError: If ``--out-dir`` is a file, or looks like one.
    """
    if out and (out.is_file() or out.suffix in ('.json', '.npz', '.png')):
        raise ValueError(f'--out-dir takes a folder, got {str(out)!r}')
    path = Path(checkpoint)
    folder = out or (
        Path('work_dirs', path.stem) if '://' in checkpoint else path.parent
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def facts() -> dict[str, str]:
    """Versions and machine."""
    (stack, *_) = installed_stacks()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
    libraries = {
        distributions[0]: version_of(*distributions)
        for distributions, _ in STACKS[stack].values()
    }
    return {
        'mmpospretrain': __version__,
        **{name: version for name, version in libraries.items() if version},
        'PyTorch': torch.__version__,
        'Python': platform.python_version(),
        'Machine': f'{os.cpu_count()} CPU cores, {device}',
    }
