"""Train: ``python tools/train.py CONFIG [--data DIR] [--work-dir DIR] [--resume]``.

Pre-training and fine-tuning alike. The arguments are those of MMPretrain's
``train.py``, ``--data``, and for fine-tuning ``--pretrained``.
"""

import argparse
import os
from functools import partial


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Pre-train or fine-tune.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--data',
        metavar='PATH',
        help='folder of images (flat, nested, or with train/ and val/ inside), or a '
        'text file with one path per line; for fine-tuning a folder with the layout '
        'of the data set',
    )
    parser.add_argument(
        '--pretrained',
        metavar='PATH',
        help='checkpoint that the backbone of a fine-tuning starts from, or none',
    )
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='go on from a checkpoint, by default the newest whole one in the work '
        'dir; where the config differs it holds, and the log says so',
    )
    parser.add_argument(
        '--amp',
        nargs='?',
        const='bfloat16',
        choices=['bfloat16', 'float16'],
        help='mixed precision on a GPU; bfloat16 unless told otherwise',
    )
    parser.add_argument(
        '--tensorboard', action='store_true', help='write TensorBoard logs too'
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='train without validation'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the global batch (the configs of this '
        'project do so anyway)',
    )
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory in loaders'
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start data workers anew each epoch (the configs of this project do)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='override config entries: model.mask_ratio=0.5 or key="[a,b]"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import torch
from mmengine.config import Config

from mmpospretrain.datasets.labelled import check_layout
from mmpospretrain.engine.cli import (
    HOW_TO_READ,
    build_runner,
    drop_validation,
    load_config,
    read_options,
    set_data,
    set_loader_defaults,
    set_pretrained,
    set_work_dir,
)
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.engine.options import options_kept
from mmpospretrain.zoo import local_file


def merge_args(cfg: Config, args: argparse.Namespace, options: dict) -> None:
    """Carry the command line over into the config.

    Args:
        cfg: With ``--cfg-options`` in it; is changed.
        args: The command line.
        options: Those of ``--cfg-options``, as read.

    Raises:
        ValueError: If that would override one of the options.
    """
    kept = partial(options_kept, cfg, options)
    with kept(f'--work-dir {args.work_dir}'):
        set_work_dir(cfg, args.config, args.work_dir)
    with kept(f'--launcher {args.launcher}'):
        cfg.launcher = args.launcher
    with kept(f'--data {args.data}', may_go=('val_', 'test_')):
        if args.data:
            set_data(cfg, args.data)
    check_layout(cfg)
    with kept(f'--pretrained {args.pretrained}', may_go=HOW_TO_READ):
        if args.pretrained:
            set_pretrained(cfg, args.pretrained)
    with kept('--no-validate'):
        if args.no_validate:
            drop_validation(cfg)
    with kept(f'--amp {args.amp}'):
        if args.amp:
            set_amp(cfg, args.amp)
    if args.tensorboard:
        cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))
    with kept(f'--resume {args.resume}'):
        if args.resume:
            set_resume(cfg, args.resume)
    with kept('--auto-scale-lr'):
        if args.auto_scale_lr:
            if 'auto_scale_lr' not in cfg:
                raise ValueError(
                    '--auto-scale-lr needs the batch that the learning rate is meant '
                    'for: set auto_scale_lr.base_batch_size in the config'
                )
            cfg.auto_scale_lr.enable = True
    with kept('num_workers=0, without workers that could persist,'):
        set_loader_defaults(cfg, pin_memory=not args.no_pin_memory)
    with kept('--no-persistent-workers'):
        if args.no_persistent_workers:
            cfg.train_dataloader.persistent_workers = False


def set_amp(cfg: Config, dtype: str) -> None:
    """Train in mixed precision.

    Raises:
        ValueError: If there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError(f'--amp {dtype} needs a GPU, and PyTorch finds none')
    cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype=dtype)
    if dtype == 'float16':
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_resume(cfg: Config, checkpoint: str) -> None:
    """Go on from a checkpoint, or from the last one if it is ``'auto'``.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if checkpoint != 'auto' and '://' not in checkpoint:
        local_file(checkpoint)
    cfg.resume = True
    cfg.load_from = None if checkpoint == 'auto' else checkpoint


def main(args: argparse.Namespace) -> None:
    """Train."""
    with readable_errors():
        options = read_options(args.cfg_options)
        cfg = load_config(args.config, options)
        merge_args(cfg, args, options)
        build_runner(cfg).train()


if __name__ == '__main__':
    main(args)
