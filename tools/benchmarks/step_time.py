"""Time the training step of a config: ``python tools/benchmarks/step_time.py CONFIG``.

What a step is says ``timing.py``. ``--vs`` compares two configs, ``--vs-options`` one
config with itself under other options. The steps of both alternate, so that a busy
machine slows both.

Any config of MMPretrain works too, self-supervised or a classifier's, by its path or as
``mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table
from timing import Job, benchmark, conditions

from mmpospretrain.engine.errors import readable_errors


def report(result: dict[str, Any]) -> None:
    """Print what was run, a table, and a line to quote."""
    table = Table(title=conditions(result))
    flops, per_image = (
        [run['flops'] for run in result['runs']],
        1e9 * result['batch_size'],
    )
    names = ('', 's/step', 'min', 'max', 's/image', 'images/s', 'peak MiB')
    for name in (*names, 'GFLOP/image') if all(flops) else names:
        table.add_column(name, justify='right')
    quote = []
    for name, run in zip('AB', result['runs'], strict=False):
        options = [f'{key}={value}' for key, value in run['options'].items()]
        print(name, run['config'], *options)
        if run['note']:
            print(f'  note: {run["note"]}')
        table.add_row(
            name,
            *(f'{run[key]:.3f}' for key in ('median', 'min', 'max')),
            f'{run["seconds_per_image"]:.4f}',
            f'{run["images_per_second"]:.2f}',
            f'{run["peak_memory_mib"]:.0f}',
            *([f'{run["flops"] / per_image:.2f}'] if all(flops) else []),
        )
        quote.append(f'{name} {run["seconds_per_image"]:.4f} s/image')
    Console().print(table)
    if ratios := result['b_over_a']:
        quote.append(
            f'B/A {ratios["ratio_of_medians"]:.3f} '
            f'(median of pairs {ratios["median_of_ratios"]:.3f}, '
            f'fastest steps {ratios["ratio_of_fastest"]:.3f})'
        )
        a, b = (run['peak_memory_mib'] for run in result['runs'])
        # On a CPU, what the C library keeps counts, too.
        quote.append(f'peak memory B/A {b / a:.3f}')
        if all(flops):
            quote.append(f'operations B/A {flops[1] / flops[0]:.3f}')
    print(', '.join(quote))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What every benchmark of steps asks for."""
    add = parser.add_argument
    add('--batch-size', type=int, default=8, metavar='N')
    add('--steps', type=int, default=5, metavar='N', help='steps that count')
    add('--warmup', type=int, default=2, metavar='N', help='steps before them')
    add(
        '--device',
        choices=['cpu', 'cuda'],
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: the GPU if there is one',
    )
    add(
        '--amp',
        nargs='?',
        const='bfloat16',
        choices=['bfloat16', 'float16', 'float32'],
        help='mixed precision on a GPU; bfloat16 unless told otherwise. float32: none, '
        'whatever the config says',
    )
    add('--compile', action='store_true', help='torch.compile, all that is timed')
    add('--threads', type=int, metavar='N', help="CPU threads, torch's by default")
    add('--json', metavar='FILE', help='write all times here')


def parse_checked(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Command line, with the common numbers in range."""
    args = parser.parse_args()
    for name, least in dict(batch_size=1, steps=1, warmup=0, threads=1).items():
        if (value := getattr(args, name)) is not None and value < least:
            option = f'--{name.replace("_", "-")}'
            parser.error(f'{option} must be at least {least}, got {value}')
    return args


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description='Time the training step of a config.',
        epilog='To compile one side alone, set compile=True in its options.',
    )
    add = parser.add_argument
    add('config', help='config file')
    add('--vs', metavar='CONFIG2', help='compare with this one, in alternating steps')
    add_common_arguments(parser)
    add('--flops', action='store_true', help='count operations, too')
    options = dict(nargs='+', action=DictAction, default={}, metavar='KEY=VALUE')
    add('--cfg-options', **options, help='override entries of CONFIG')
    add(
        '--vs-options',
        **options,
        help='override entries of CONFIG2, which is CONFIG unless --vs is given',
    )
    return parse_checked(parser)


def job_of(args: argparse.Namespace, config: str, options: dict[str, Any]) -> Job:
    """A config to time as the common arguments say."""
    common = (args.batch_size, args.device, args.amp, args.compile, args.threads)
    return Job(config, options, *common)


def jobs(args: argparse.Namespace) -> list[Job]:
    """What to time: CONFIG, and what it is compared with."""
    sides = [job_of(args, args.config, args.cfg_options)]
    if args.vs or args.vs_options:
        sides.append(job_of(args, args.vs or args.config, args.vs_options))
    return sides


def main() -> None:
    """Time, print, write."""
    args = parse_args()
    with readable_errors():
        result = benchmark(jobs(args), args.steps, args.warmup, count_flops=args.flops)
        report(result)
        if args.json:
            Path(args.json).write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
