"""The suite in one command: ``python tools/demo.py [--work-dir DIR]``.

PhotoShapes is drawn, a small ViT is pre-trained on it by DropPos, and what it has
learned is measured. Then it goes into detection, segmentation and classification,
beside the same ViT from scratch. A page shows it all, ``DIR/index.html``. Every step is
a command of its own, which the page names. What is done is not done again: after Ctrl-C
the same command goes on, training from its last checkpoint.

Exits with 1 if the model has not learned.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description='Pre-train a small ViT on PhotoShapes and show what it learned.'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default='work_dirs/demo',
        help='where everything goes (default: work_dirs/demo)',
    )
    parser.add_argument(
        '--images', type=int, default=6000, help='for training (default: 6000)'
    )
    parser.add_argument(
        '--val-images', type=int, default=400, help='for validation (default: 400)'
    )
    parser.add_argument('--epochs', type=int, help='by default those of the config')
    parser.add_argument(
        '--no-transfer', action='store_true', help='end after the pre-training'
    )
    return parser.parse_args()


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

from mmengine.config import Config

from mmpospretrain.datasets import photoshapes
from mmpospretrain.engine.cli import facts, load_config
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.engine.steps import Step, StepRunner
from mmpospretrain.visualization import (
    Picture,
    Section,
    plot_curve,
    read_scalars,
    render_page,
)

CONFIG = 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'
# Segmentation is seen to differ within 20 minutes; the others would take longer.
TRANSFER_SEEDS = ('3', 'detection=1', 'classification=1')
# Of the average over the 16 cases. A model that has learned nothing is at 1.
TIMES_CHANCE = 3
Show = Callable[[], tuple[str, list[Picture]]]


def training_options(epochs: int | None) -> dict:
    """``--cfg-options`` for another number of epochs, 5 % of them warm-up."""
    if epochs is None:
        return {}
    return {
        'train_cfg.max_epochs': epochs,
        'param_scheduler.0.end': 0.05 * epochs,
        'param_scheduler.1.begin': 0.05 * epochs,
        'param_scheduler.1.end': epochs,
    }


def plan(
    args: argparse.Namespace, cfg: Config, options: dict
) -> list[tuple[Step, Show]]:
    """All steps in order, each with what the page says about it in the end."""
    work_dir = args.work_dir
    data, training = work_dir / 'photoshapes', work_dir / 'training'
    positions, pictures = work_dir / 'positions', work_dir / 'pictures'
    checkpoint = training / f'epoch_{cfg.train_cfg.max_epochs}.pth'
    draw = Step(
        '1. PhotoShapes: a data set drawn on this machine',
        [
            *('-m', 'mmpospretrain.datasets.photoshapes', str(data)),
            *('--images', str(args.images), '--val-images', str(args.val_images)),
        ],
        data,
        photoshapes.MANIFEST,
    )
    train = Step(
        '2. DropPos: pre-training without labels',
        [
            *('tools/train.py', CONFIG, '--data', str(data)),
            *('--work-dir', str(training), '--resume'),
            *(['--cfg-options'] if options else []),
            *(f'{key}={value}' for key, value in options.items()),
        ],
        training,
        checkpoint.name,
    )
    evaluate = Step(
        '3. How many patches find their place?',
        [
            *('tools/eval_positions.py', CONFIG, str(checkpoint)),
            *('--data', str(data), '--out-dir', str(positions)),
        ],
        positions,
        'positions.json',
    )
    visualize = Step(
        '4. Which patches find their place?',
        [
            *('tools/visualize_positions.py', CONFIG, str(checkpoint)),
            *(str(data / 'val'), '--num-images', '6'),
            *('--pos-mask-ratio', str(cfg.model.pos_mask_ratio)),
            *('--out', str(pictures / 'positions.png')),
        ],
        pictures,
        'positions.png',
    )
    transfer = Step(
        '5. What is it worth? Detection, segmentation and classification',
        [
            *('tools/transfer.py', str(checkpoint), '--data', str(data)),
            *('--seeds', *TRANSFER_SEEDS, '--jobs', str(min(2, os.cpu_count() or 1))),
            *('--work-dir', str(work_dir / 'transfer')),
        ],
        work_dir / 'transfer',
        'report.json',
    )
    steps = [
        (draw, partial(show_data, data)),
        (train, partial(show_training, training, cfg, args.images)),
        (evaluate, partial(show_positions, positions)),
        (visualize, partial(show_reconstructions, cfg)),
    ]
    if not args.no_transfer:
        steps.append((transfer, partial(show_transfer, work_dir / 'transfer')))
    return steps


def show_data(data: Path) -> tuple[str, list[Picture]]:
    """Section of the data set."""
    manifest = read_json(data / photoshapes.MANIFEST)
    arguments, photographs = manifest['arguments'], manifest['photographs']
    text = (
        f'{arguments["images"]} training images from {len(photographs["train"])} '
        f'photographs, {arguments["val_images"]} validation images from '
        f'{len(photographs["val"])} others. Circles, squares, triangles and stars are '
        'cut from photographs and laid over other photographs. DropPos sees the images '
        'alone, without their labels.'
    )
    return text, []


def show_training(
    training: Path, cfg: Config, num_images: int
) -> tuple[str, list[Picture]]:
    """Section of the training curves; draws them."""
    scalars = read_scalars(training)
    batch_size, epochs = cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs
    per_epoch = num_images // batch_size
    rows = cfg.model.backbone.img_size // cfg.model.backbone.patch_size
    chance = 100 / rows**2
    accuracy = {
        'training': scalars['position_acc'],
        'validation': {
            epoch * per_epoch: value
            for epoch, value in scalars['position/top1'].items()
        },
    }
    plot_curve(
        accuracy, 'position accuracy, %', (f'chance, {chance:.1f} %', chance)
    ).savefig(training / 'accuracy.png', dpi=150)
    plot_curve({'training': scalars['loss']}, 'loss').savefig(
        training / 'loss.png', dpi=150
    )
    text = (
        f'{epochs} epochs, {epochs * per_epoch} iterations of {batch_size} images. '
        f'{cfg.model.mask_ratio:.0%} of the patches are masked, and '
        f'{cfg.model.pos_mask_ratio:.0%} of the others lose their position: where in '
        f'the grid of {rows} × {rows} patches do they belong? The targets are soft at '
        'first and become one-hot, which lowers the loss by itself.'
    )
    return text, [
        Picture('training/accuracy.png', 'Position accuracy', 'Accuracy by iteration'),
        Picture('training/loss.png', 'Loss', 'Loss by iteration'),
    ]


def show_positions(positions: Path) -> tuple[str, list[Picture]]:
    """Section of the position table."""
    table = read_json(positions / 'positions.json')
    rows = '; '.join(
        f'γ = {ratio:g}: ' + ', '.join(f'{value:.1f}' for value in row)
        for ratio, row in zip(table['mask_ratios'], table['accuracy'], strict=True)
    )
    text = (
        f'Share of the dropped positions of {table["num_images"]} validation images '
        'that the model finds, in 16 cases: the more patches are masked, and the more '
        'of the others lose their position, the harder it gets.'
    )
    caption = 'Rows: share of patches masked. Columns: share of the others dropped.'
    picture = 'positions/positions.png'
    return text, [Picture(picture, caption, f'Position accuracy in %: {rows}')]


def show_reconstructions(cfg: Config) -> tuple[str, list[Picture]]:
    """Section of the pictures."""
    text = (
        f'Validation images with {cfg.model.pos_mask_ratio:.0%} of the positions '
        'dropped, as in training. Black patches are masked, white ones are put in the '
        'wrong place, the others in the right one or were told theirs.'
    )
    caption = 'As Figure 3 of the DropPos paper, where 95% are dropped'
    alt = 'Six images under four mask ratios'
    return text, [Picture('pictures/positions.png', caption, alt)]


def show_transfer(transfer: Path) -> tuple[str, list[Picture]]:
    """Section of the fine-tunings."""
    tasks = read_json(transfer / 'report.json')['tasks']
    summary = '. '.join(task['summary'] for task in tasks.values())
    text = (
        'The pre-trained backbone goes into Mask R-CNN, UperNet and a classifier, and '
        'is fine-tuned on a few labelled images; so is the same backbone from scratch, '
        f'with the same recipe. In percent, on the validation images: {summary}. '
        'transfer/index.html has the tables and every command.'
    )
    kinds = {'curves': 'validation while training', 'predictions': 'predictions'}
    pictures = [
        Picture(f'transfer/{name}/{kind}.png', f'{name.capitalize()}: {what}', what)
        for kind, what in kinds.items()
        for name in tasks
    ]
    return text, pictures


def read_json(path: Path) -> dict:
    """What a tool has written."""
    return json.loads(path.read_text(encoding='utf-8'))


def judge(table: dict) -> tuple[str, bool]:
    """Has the model learned? In words, and yes or no."""
    times = table['average'] / table['chance']
    passed = times >= TIMES_CHANCE
    conclusion = (
        'The model has learned where patches belong.'
        if passed
        else f'Below {TIMES_CHANCE} times: the model has not learned.'
    )
    verdict = (
        f'Position accuracy {table["average"]:.1f} %, averaged over 16 cases: '
        f'{times:.1f} times chance ({table["chance"]:.1f} %). {conclusion}'
    )
    return verdict, passed


def main(args: argparse.Namespace) -> None:
    """Run all steps, write the page, and say how it went."""
    args.work_dir = args.work_dir.resolve()
    if args.work_dir.is_relative_to(ROOT):
        args.work_dir = args.work_dir.relative_to(ROOT)
    os.chdir(ROOT)
    with readable_errors():
        options = training_options(args.epochs)
        cfg = load_config(CONFIG, options)
        settings = dict(
            images=args.images,
            val_images=args.val_images,
            photoshapes=photoshapes.VERSION,
            config=cfg.to_dict(),
        )
        args.work_dir.mkdir(parents=True, exist_ok=True)
        runner = StepRunner(args.work_dir / 'demo.json', settings, cwd=ROOT)
        steps = plan(args, cfg, options)
        try:
            runner.run([step for step, _ in steps])
        except KeyboardInterrupt:
            print('\ninterrupted; the same command goes on from here', file=sys.stderr)
            sys.exit(130)

    verdict, passed = judge(read_json(args.work_dir / 'positions/positions.json'))
    if not args.no_transfer:
        tasks = read_json(args.work_dir / 'transfer/report.json')['tasks'].values()
        verdict += ' Transfer: ' + '; '.join(task['summary'] for task in tasks) + '.'
    page = args.work_dir / 'index.html'
    html = render_page(
        title='DropPos on PhotoShapes',
        introduction='A small vision transformer, pre-trained on this machine by '
        'reconstructing dropped positions, and put to use. Each step names its '
        'command, to be run from the root of the repository.',
        verdict=verdict,
        outcome='better' if passed else 'worse',
        sections=[
            Section(step.title, *show(), step.command, runner.seconds(step))
            for step, show in steps
        ],
        facts=facts(),
    )
    page.write_text(html, encoding='utf-8')
    print(f'{verdict}\nThe page: {page.resolve()}')
    sys.exit(0 if passed else 1)


if __name__ == '__main__':
    main(args)
