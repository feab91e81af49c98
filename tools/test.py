"""Evaluate: ``python tools/test.py CONFIG CHECKPOINT``.

The arguments are those of MMPretrain's ``test.py``, and ``--data``.
"""

import argparse
import os
from functools import partial
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--data', metavar='PATH', help='as for train.py; uses its val/')
    parser.add_argument('--work-dir', help='where the log goes')
    parser.add_argument(
        '--out', metavar='FILE', help='write results here (.json, .pkl)'
    )
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        default='pred',
        help='what --out holds: metrics, or predictions (default)',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    endings = ('.json', '.yaml', '.yml', '.pkl')[3 * (args.out_item == 'pred') :]
    if args.out and Path(args.out).suffix not in endings:
        parser.error(
            f'--out of {args.out_item} takes a file that ends in {" or ".join(endings)}'
            f', got {args.out!r}; --out-item chooses between metrics and predictions'
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import mmengine
from mmengine.evaluator import DumpResults

from mmpospretrain.engine.cli import (
    build_runner,
    load_config,
    match_prefix_tokens,
    read_options,
    set_test_data,
    set_work_dir,
)
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.engine.options import options_kept
from mmpospretrain.zoo import local_file


def evaluate(args: argparse.Namespace) -> None:
    """Run the test loop and write what it gives."""
    options = read_options(args.cfg_options)
    cfg = load_config(args.config, options)
    checkpoint = str(local_file(args.checkpoint))
    kept = partial(options_kept, cfg, options)
    with kept(f'--work-dir {args.work_dir}'):
        set_work_dir(cfg, args.config, args.work_dir)
    with kept(f'--data {args.data}', may_go=('val_', 'test_')):
        set_test_data(cfg, args.config, args.data)
    with kept(f'--launcher {args.launcher}'):
        cfg.launcher = args.launcher
    with kept(f'the checkpoint {args.checkpoint}'):
        cfg.load_from = checkpoint
    with kept('what is no training'):
        cfg.resume = False
    match_prefix_tokens(cfg, checkpoint)
    runner = build_runner(cfg)
    if args.out and args.out_item == 'pred':
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


def main(args: argparse.Namespace) -> None:
    """Test."""
    with readable_errors():
        evaluate(args)


if __name__ == '__main__':
    main(args)
