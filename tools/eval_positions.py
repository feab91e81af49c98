"""Position accuracy by case: ``python tools/eval_positions.py CONFIG CHECKPOINT``.

Of DropPos, the table of Tabs. S3-S5 and a heat map; of MP3, accuracy over all, context
and masked patches by η, and the curve of Fig. 3. Over the validation images of the
config; printed, and written to ``positions.json`` and ``positions.png``.
"""

import argparse
import json
from functools import partial
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Evaluate position predictions.')
    parser.add_argument('config', help='config file of a DropPos or MP3 model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--data', metavar='PATH', help='as for train.py; uses its val/')
    parser.add_argument(
        '--out-dir',
        dest='out',
        metavar='DIR',
        type=Path,
        help='where results go; by default the folder of the checkpoint',
    )
    parser.add_argument(
        '--mask-ratios',
        nargs='+',
        type=float,
        metavar='R',
        help='γ of DropPos (default: 0 .25 .5 .75) or η of MP3 (0 .1 .2 … .9)',
    )
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    parser.add_argument(
        '--num-images', type=int, metavar='N', help='only the first N images'
    )
    parser.add_argument(
        '--batch-size', type=int, metavar='B', help='does not change the result'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE'
    )
    return parser.parse_args()


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

from rich.console import Console
from rich.table import Table

from mmpospretrain.checks import check_at_least, check_ratio
from mmpospretrain.engine.cli import (
    build_test_loader,
    load_config,
    load_model,
    read_options,
    results_folder,
    set_test_data,
)
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.engine.options import options_kept
from mmpospretrain.evaluation.position_curve import PositionCurve, position_curve
from mmpospretrain.evaluation.position_table import (
    PositionTable,
    check_predictor,
    position_table,
)
from mmpospretrain.models import MP3
from mmpospretrain.visualization import plot_position_curve, plot_position_table


def evaluate(args: argparse.Namespace) -> PositionTable | PositionCurve:
    """Run the model over the test images of the config."""
    options = read_options(args.cfg_options)
    cfg = load_config(args.config, options)
    kept = partial(options_kept, cfg, options)
    model = load_model(cfg, args.checkpoint)
    check_predictor(model)
    with kept(f'--data {args.data}', may_go=('val_', 'test_')):
        set_test_data(cfg, args.config, args.data)
    with kept(f'--num-images {args.num_images}'):
        if args.num_images is not None:
            cfg.test_dataloader.dataset.indices = args.num_images
    with kept(f'--batch-size {args.batch_size}'):
        if args.batch_size is not None:
            cfg.test_dataloader.batch_size = args.batch_size
    loader = build_test_loader(cfg)
    ratios = {'mask_ratios': args.mask_ratios} if args.mask_ratios else {}
    measure = position_curve if isinstance(model, MP3) else position_table
    return measure(model, loader, seed=args.seed, **ratios)


def table_to_rich(result: PositionTable) -> Table:
    """The table as printed, laid out as Tab. S3 of DropPos."""
    table = Table(
        title=f'Position accuracy over {result.num_images} images, %',
        caption=f'average {result.average:.2f}, chance {result.chance:.2f}',
    )
    table.add_column('γ \\ γ_pos')
    for ratio in result.pos_mask_ratios:
        table.add_column(f'{ratio:.2f}', justify='right')
    table.add_column('avg.', justify='right')
    for ratio, row, mean in zip(
        result.mask_ratios, result.accuracy, result.row_averages, strict=True
    ):
        table.add_row(f'{ratio:.2f}', *(f'{x:.2f}' for x in [*row, mean]))
    return table


def curve_to_rich(result: PositionCurve) -> Table:
    """The values of the curve as printed, a dash where there is nothing to count."""
    table = Table(
        title='Position accuracy, %',
        caption=f'{result.num_images} images, chance {result.chance:.2f}',
    )
    for name in ('η', *result.accuracy):
        table.add_column(name, justify='right')
    for ratio in result.mask_ratios:
        values = [by_ratio.get(ratio) for by_ratio in result.accuracy.values()]
        cells = ('–' if value is None else f'{value:.2f}' for value in values)
        table.add_row(f'{ratio:.2f}', *cells)
    return table


def main(args: argparse.Namespace) -> None:
    """Evaluate, print, write."""
    with readable_errors():
        for ratio in args.mask_ratios or ():
            check_ratio('--mask-ratios', ratio)
        for option in ('num_images', 'batch_size'):
            if (value := getattr(args, option)) is not None:
                check_at_least('--' + option.replace('_', '-'), value, 1)
        result = evaluate(args)
        if isinstance(result, PositionCurve):
            table, figure = curve_to_rich(result), plot_position_curve(result)
        else:
            table, figure = table_to_rich(result), plot_position_table(result)
        Console().print(table)
        out = results_folder(args.out, args.checkpoint)
        figure.savefig(out / 'positions.png', dpi=150)
        report = dict(
            config=args.config,
            checkpoint=args.checkpoint,
            seed=args.seed,
            **result.to_dict(),
        )
        (out / 'positions.json').write_text(json.dumps(report, indent=2) + '\n')
        print(f'wrote {out}/positions.json and {out}/positions.png')


if __name__ == '__main__':
    main(args)
