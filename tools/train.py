"""Train: ``python tools/train.py CONFIG [--data DIR] [--work-dir DIR] [--resume]``.

Pre-training and fine-tuning alike. The arguments are those of MMPretrain's
``train.py``, ``--data``, and for fine-tuning ``--pretrained``.
"""

import argparse
import os

import torch
from mmengine.config import Config, DictAction

from mmpospretrain.datasets.labelled import check_layout
from mmpospretrain.engine.cli import (
    build_runner,
    drop_validation,
    load_config,
    readable_errors,
    set_data,
    set_loader_defaults,
    set_pretrained,
    set_work_dir,
)
from mmpospretrain.zoo import local_file


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
        help='go on from a checkpoint, by default the last one in the work dir',
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
        action=DictAction,
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


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Carry the command line over into the config."""
    set_work_dir(cfg, args.config, args.work_dir)
    cfg.launcher = args.launcher
    if args.data:
        set_data(cfg, args.data)
    check_layout(cfg)
    if args.pretrained:
        set_pretrained(cfg, args.pretrained)
    if args.no_validate:
        drop_validation(cfg)
    if args.amp:
        if not torch.cuda.is_available():
            raise ValueError(f'--amp {args.amp} needs a GPU, and PyTorch finds none')
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype=args.amp)
        if args.amp == 'float16':
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.tensorboard:
        cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))
    if args.resume:
        if args.resume != 'auto' and '://' not in args.resume:
            local_file(args.resume)
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(
                '--auto-scale-lr needs the batch that the learning rate is meant for: '
                'set auto_scale_lr.base_batch_size in the config'
            )
        cfg.auto_scale_lr.enable = True
    set_loader_defaults(cfg, pin_memory=not args.no_pin_memory)
    if args.no_persistent_workers:
        cfg.train_dataloader.persistent_workers = False


def main() -> None:
    """Train."""
    args = parse_args()
    with readable_errors():
        cfg = load_config(args.config, args.cfg_options)
        merge_args(cfg, args)
        build_runner(cfg).train()


if __name__ == '__main__':
    main()
