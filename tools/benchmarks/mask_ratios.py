"""Time and memory by mask ratio: ``python tools/benchmarks/mask_ratios.py``.

Table 2 of MP3: the training step of MP3 under several mask ratios η, beside that of MAE
under the same η and that of a ViT that learns from labels and sees all patches. A row
more is ours: MP3 that asks only a third of the masked patches where they belong.

The rows of one η take turns, a step each, so that a busy machine slows all; each runs
in a process of its own. The next η has fresh processes: four ViT-B are all that fits
into the memory of a desktop. So compare rows within an η, by the ratios: they are of
the same minutes, for which the ViT is timed with every η. The steps are those of
``timing.py``, all of the same batch size and precision.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mmengine.config import DictAction
from rich import box
from rich.console import Console
from rich.table import Table
from step_time import add_common_arguments, job_of, parse_checked
from timing import Job, benchmark, compare, conditions

from mmpospretrain.checks import check_ratio
from mmpospretrain.engine.errors import readable_errors

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
MP3 = CONFIGS / 'mp3/mp3_vit-base-p16_8xb256-coslr-100e_in1k.py'
MAE = 'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'
VIT = 'mmpretrain::deit/deit-base_16xb64_in1k.py'  # the recipe that MP3 follows
REFERENCES = ('MAE', 'ViT')


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Time training steps by mask ratio.')
    add = parser.add_argument
    for name, config in dict(mp3=MP3, mae=MAE, vit=VIT).items():
        add(f'--{name}', default=str(config), metavar='CONFIG', help='(%(default)s)')
        add(
            f'--{name}-options',
            nargs='+',
            action=DictAction,
            default={},
            metavar='KEY=VALUE',
            help='override its entries',
        )
    add(
        '--ratios',
        nargs='+',
        type=float,
        default=[0.3, 0.5, 0.75, 0.9],
        metavar='η',
        help='mask ratios; by default those of Table 2',
    )
    add('--markdown', action='store_true', help='print the table for a README')
    add_common_arguments(parser)
    parser.set_defaults(amp='float32')  # MAE's config has mixed precision, MP3's none
    return parse_checked(parser)


def rows(args: argparse.Namespace, ratio: float) -> dict[str, Job]:
    """What takes turns under one η."""
    mp3 = {**args.mp3_options, 'model.mask_ratio': ratio}
    mae = {**args.mae_options, 'model.backbone.mask_ratio': ratio}
    return {
        'MP3': job_of(args, args.mp3, {**mp3, 'model.query_ratio': 1.0}),
        'MP3, 1/3 asked': job_of(args, args.mp3, {**mp3, 'model.query_ratio': 1 / 3}),
        'MAE': job_of(args, args.mae, mae),
        'ViT': job_of(args, args.vit, args.vit_options),
    }


def relate(runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add to the runs of one η what `compare` says of each, ``over`` the references."""
    return {
        name: dict(
            run,
            over={
                other: compare(runs[other]['seconds'], run['seconds'])
                for other in REFERENCES
            },
        )
        for name, run in runs.items()
    }


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """For every η, what `benchmark` returns, its runs by name and related."""
    for ratio in args.ratios:
        check_ratio('--ratios', ratio)
    groups = []
    for ratio in args.ratios:
        jobs = rows(args, ratio)
        result = benchmark([*jobs.values()], args.steps, args.warmup, f'η = {ratio:g}')
        runs = relate(dict(zip(jobs, result.pop('runs'), strict=True)))
        groups.append(dict(mask_ratio=ratio, **result, runs=runs))
    return groups


def to_rich(groups: list[dict[str, Any]], markdown: bool = False) -> Table:
    """The table as printed: medians, their ratios, and peaks of memory."""
    table = Table(box=box.MARKDOWN if markdown else box.HEAVY_HEAD)
    names = ('s/image', *(f'× {name}' for name in REFERENCES), 'peak MiB')
    table.add_column('η')
    table.add_column('')
    for name in names:
        table.add_column(name, justify='right')
    for group in groups:
        for name, run in group['runs'].items():
            ratios = (run['over'][other]['ratio_of_medians'] for other in REFERENCES)
            table.add_row(
                f'{group["mask_ratio"]:g}',
                name,
                f'{run["seconds_per_image"]:.4f}',
                *(f'{ratio:.2f}' for ratio in ratios),
                f'{run["peak_memory_mib"]:.0f}',
                end_section=name == 'ViT' and not markdown,
            )
    return table


def main() -> None:
    """Time, print, write."""
    args = parse_args()
    with readable_errors():
        groups = measure(args)
        Console().print(to_rich(groups, args.markdown))
        load = max(group['load'] for group in groups)
        print(f'{conditions(dict(groups[0], load=load))}, {args.amp}.')
        print('The rows of an η took turns; those of the next ran after them.')
        if args.json:
            Path(args.json).write_text(json.dumps(groups, indent=2) + '\n')


if __name__ == '__main__':
    main()
