"""Evaluate: ``python tools/test.py CONFIG CHECKPOINT``.

The arguments are those of MMPretrain's ``test.py``, and ``--data``.
"""

import argparse
import os

import mmengine
from mmengine.config import DictAction
from mmengine.evaluator import DumpResults

from mmpospretrain.datasets.labelled import check_layout
from mmpospretrain.engine.cli import (
    build_runner,
    load_config,
    match_prefix_tokens,
    readable_errors,
    set_data,
    set_loader_defaults,
    set_work_dir,
)


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
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def evaluate(args: argparse.Namespace) -> None:
    """Run the test loop and write what it gives."""
    cfg = load_config(args.config, args.cfg_options)
    set_work_dir(cfg, args.config, args.work_dir)
    if args.data:
        set_data(cfg, args.data)
    if not cfg.get('test_dataloader'):
        raise ValueError(
            f'there is no val/ to test on in {args.data}'
            if args.data
            else f'{args.config} has no test; features are tested by '
            'tools/linear_probe.py'
        )
    check_layout(cfg, ['test_dataloader'])
    set_loader_defaults(cfg)
    cfg.launcher = args.launcher
    cfg.load_from = args.checkpoint
    match_prefix_tokens(cfg, args.checkpoint)
    runner = build_runner(cfg)
    if args.out and args.out_item == 'pred':
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


def main() -> None:
    """Test."""
    args = parse_args()
    with readable_errors():
        evaluate(args)


if __name__ == '__main__':
    main()
