"""Figures 8, 10, 11 of MP3: ``analyze_attention.py CONFIG CHECKPOINT … --images DIR``.

``relative.png``: where heads look, as attention by offset, with its entropy.
``correlation.png``: how alike places are, within images and across. ``attention.json``
has the numbers, ``attention.npz`` the maps.

For pre-trainings and for classifiers of MMPretrain, several side by side. Patches all
look at one another: MP3 is shown at η = 0, I-JEPA and StoP by their target encoder.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import DictAction
from mmengine.dataset import default_collate
from mmpretrain.models import VisionTransformer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmpospretrain.checks import check_at_least
from mmpospretrain.datasets import ImageFolder, resolve_image_source
from mmpospretrain.engine.cli import facts, load_config, load_model, readable_errors
from mmpospretrain.evaluation.attention import head_statistics, position_correlation
from mmpospretrain.visualization import plot_position_correlation, plot_relative_maps
from mmpospretrain.visualization.attention import check_heads


class Model(NamedTuple):
    """One checkpoint, and the images as its config prepares them."""

    name: str
    config: str
    checkpoint: str
    backbone: VisionTransformer
    preprocessor: nn.Module
    loader: DataLoader

    def batches(self, what: str) -> Iterator[Tensor]:
        """Normalised images (B, C, H, W), with a progress bar."""
        for batch in track(self.loader, f'{self.name}: {what}', transient=True):
            yield self.preprocessor(batch)['inputs']


class Analysis(NamedTuple):
    """How something is measured and drawn."""

    measure: Callable[..., Any]
    """From a backbone and batches, a NamedTuple with a ``summary()``."""
    draw: Callable[[dict[str, Any], argparse.Namespace], Figure]
    """From what was measured, by the name of the model."""


ANALYSES = {
    'relative': Analysis(
        head_statistics,
        lambda found, args: plot_relative_maps(found, args.layers, args.heads),
    ),
    'correlation': Analysis(
        position_correlation, lambda found, args: plot_position_correlation(found)
    ),
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Show what attention looks at.')
    add = parser.add_argument
    add(
        'models',
        nargs='+',
        metavar='CONFIG CHECKPOINT',
        help='config file, and one or more checkpoints that were trained with it; then '
        'perhaps another config with its own',
    )
    add(
        '--images',
        required=True,
        metavar='PATH',
        help='folder or list file; of a data set its val/',
    )
    add('--names', nargs='+', metavar='NAME', help='of the checkpoints, for titles')
    add('--show', nargs='+', choices=[*ANALYSES], default=[*ANALYSES], help='all')
    add('--layers', nargs='+', type=int, metavar='L', help='some, from 1, for relative')
    add(
        '--heads',
        type=int,
        metavar='K',
        help='only the K most local heads of each layer of the first checkpoint, and '
        'the same heads of the others (Figure 8); by default all, by entropy',
    )
    add(
        '--num-images',
        type=int,
        metavar='N',
        default=1000,
        help='at most so many, evenly from the list; 0 takes all (default: 1000)',
    )
    add('--batch-size', type=int, metavar='B', default=32)
    add('--num-workers', type=int, metavar='N', default=2, help='to read images')
    add(
        '--out',
        type=Path,
        metavar='DIR',
        help='where results go; by default the folder of the first checkpoint',
    )
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def pair_up(arguments: list[str]) -> list[tuple[str, str]]:
    """Every checkpoint with the config that stands before it.

    Raises:
        ValueError: If there is no config in front, or no checkpoint behind one.
    """
    groups: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.endswith('.py') or '::' in argument:
            groups.append((argument, []))
        elif groups:
            groups[-1][1].append(argument)
        else:
            raise ValueError(f'{argument} needs a config before it, which ends in .py')
    for config, checkpoints in groups:
        if not checkpoints:
            raise ValueError(f'{config} needs a checkpoint after it')
    return [(config, path) for config, paths in groups for path in paths]


def choose_names(checkpoints: list[str], names: list[str] | None) -> list[str]:
    """Those given, or folder and file of each checkpoint.

    Raises:
        ValueError: If they are too few or too many, or two are the same.
    """
    names = names or [
        f'{Path(c).resolve().parent.name}/{Path(c).stem}' for c in checkpoints
    ]
    if len(set(names)) < len(names) or len(names) != len(checkpoints):
        raise ValueError(
            f'{len(checkpoints)} checkpoints need as many different --names, got '
            f'{", ".join(names)}'
        )
    return names


def load(name: str, config: str, checkpoint: str, args: argparse.Namespace) -> Model:
    """A checkpoint, ready to be measured.

    Raises:
        FileNotFoundError: If config, checkpoint or images are not there.
        ValueError: If the checkpoint is of another config, which is of no ViT, or says
            nothing of how images are evaluated.
    """
    cfg = load_config(config, args.cfg_options)
    pipeline = cfg.get('val_pipeline') or cfg.get('test_pipeline')
    if pipeline is None:
        raise ValueError(f'{config} has no val_pipeline or test_pipeline for images')
    model = load_model(cfg, checkpoint)
    backbone = getattr(model, 'backbone', model)
    backbone = getattr(model, 'target_encoder', backbone)  # I-JEPA evaluates this one
    if not isinstance(backbone, VisionTransformer):
        raise ValueError(
            f'{config} is a config of a {type(backbone).__name__}, and attention is '
            'shown of a ViT'
        )
    train, val = resolve_image_source(args.images)
    images = ImageFolder(**(val or train), pipeline=pipeline)
    if 0 < args.num_images < len(images):
        chosen = np.linspace(0, len(images) - 1, args.num_images).astype(int)
        images = images.get_subset(chosen.tolist())
    loader = DataLoader(
        images,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        collate_fn=default_collate,
    )
    preprocessor = model.data_preprocessor
    return Model(name, config, checkpoint, backbone, preprocessor, loader)


def to_rich(report: dict[str, dict]) -> Table:
    """Entropies as printed: the most local and the most global head of each layer."""
    table = Table(title='Entropy of heads, lowest and highest', caption='in nats')
    table.add_column('layer')
    for name, part in report.items():
        largest = part['relative']['largest_entropy']
        table.add_column(f'{name}\nat most {largest:.2f}', justify='right')
    columns = (part['relative']['entropy'] for part in report.values())
    for number, layers in enumerate(zip_longest(*columns, fillvalue=()), start=1):
        cells = (f'{min(x):.2f}  {max(x):.2f}' if x else '' for x in layers)
        table.add_row(str(number), *cells)
    return table


def main() -> None:
    """Measure, print, draw, write."""
    args = parse_args()
    with readable_errors():
        check_at_least('--num-images', args.num_images, 0)
        check_at_least('--batch-size', args.batch_size, 1)
        pairs = pair_up(args.models)
        names = choose_names([checkpoint for _, checkpoint in pairs], args.names)
        models = [
            load(name, *pair, args) for name, pair in zip(names, pairs, strict=True)
        ]
        if 'relative' in args.show:
            shapes = {
                model.name: (
                    model.backbone.num_layers,
                    model.backbone.arch_settings['num_heads'],
                )
                for model in models
            }
            check_heads(shapes, args.layers, args.heads)
        out = args.out or Path(pairs[0][1]).parent
        out.mkdir(parents=True, exist_ok=True)

        report: dict[str, Any] = {
            model.name: dict(config=model.config, checkpoint=model.checkpoint)
            for model in models
        }
        arrays, written = {}, []
        for what in args.show:
            analysis = ANALYSES[what]
            found = {
                model.name: analysis.measure(model.backbone, model.batches(what))
                for model in models
            }
            for name, result in found.items():
                report[name][what] = result.summary()
                arrays |= {
                    f'{name}/{field}': value
                    for field, value in result._asdict().items()
                    if isinstance(value, np.ndarray)
                }
            analysis.draw(found, args).savefig(out / f'{what}.png', dpi=150)
            written.append(f'{what}.png')
        if 'relative' in args.show:
            Console().print(to_rich(report))
        report = dict(images=args.images, models=report, facts=facts())
        text = json.dumps(report, indent=2) + '\n'
        (out / 'attention.json').write_text(text, encoding='utf-8')
        np.savez_compressed(out / 'attention.npz', **arrays)
        written += ['attention.json', 'attention.npz']
        print(f'wrote {" and ".join(str(out / name) for name in written)}')


if __name__ == '__main__':
    main()
