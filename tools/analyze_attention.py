"""What attention looks at: ``analyze_attention.py CONFIG CHECKPOINT … --images DIR``.

``relative.png``: where heads look, as attention by offset, with its entropy (MP3,
Figures 8 and 11). ``correlation.png``: how alike places are, within images and across
(MP3, Figure 10). With ``--show diversity``, ``diversity.png``: layer by layer, how
differently patches look, and how far (PosField, Figure 5). With ``--show query``,
``query.png``: what the patches at some points look at in the last layer (PosField,
Figure 6). ``attention.json`` has the numbers, ``attention.npz`` the maps.

For pre-trainings, and for classifiers, detectors and segmentors whose backbone is a ViT
with plain attention, several side by side; not for windows and relative positions of
ViTDet, nor for BEiT, EVA-02 and other kinds. Patches all look at one another: MP3 is
shown at η = 0, and of a model with a teacher, the teacher.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

SHOW = ('relative', 'correlation', 'diversity', 'query')
SIZE = 480  # of images, for PosField's (Appendix A)
MOST_QUERIED = 8  # images


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Show what attention looks at.')
    add = parser.add_argument
    add(
        'models',
        nargs='+',
        metavar='CONFIG CHECKPOINT',
        help='config file, and one or more checkpoints of its backbone, of this suite '
        'or released by others (DINOv2, MAE, timm, Hugging Face); then '
        'perhaps another config with its own',
    )
    add(
        '--images',
        metavar='PATH',
        help='folder or list file, for all but query; of a data set its val/',
    )
    add('--names', nargs='+', metavar='NAME', help='of the checkpoints, for titles')
    add(
        '--show',
        nargs='+',
        choices=SHOW,
        default=SHOW[:2],
        help=f'default: {" ".join(SHOW[:2])}',
    )
    add('--layers', nargs='+', type=int, metavar='L', help='some, from 1, for relative')
    add(
        '--heads',
        type=int,
        metavar='K',
        help='only the K most local heads of each layer of the first checkpoint, and '
        'the same heads of the others (MP3, Figure 8); by default all, by entropy',
    )
    add(
        '--query',
        nargs=2,
        action='append',
        metavar=('X', 'Y'),
        help='a point of the images, from the upper left corner: whole numbers are '
        'pixels after resizing, others shares of the side: 0.5 0.5 is the middle, '
        'and the default. May be given more than once',
    )
    add(
        '--query-images',
        nargs='+',
        type=Path,
        metavar='IMAGE',
        help=f'files or folders, the first {MOST_QUERIED} images, for query',
    )
    add(
        '--image-size',
        type=int,
        metavar='PIXELS',
        help='side of a square, cut from the middle of an image; by default '
        f"{SIZE} for diversity and query, and the config's own size for the others",
    )
    add(
        '--num-images',
        type=int,
        metavar='N',
        default=1000,
        help='at most so many, evenly from the list; 0 takes all (default: 1000)',
    )
    add('--batch-size', type=int, metavar='B', default=8)
    add('--num-workers', type=int, metavar='N', default=2, help='to read images')
    add(
        '--out-dir',
        dest='out',
        type=Path,
        metavar='DIR',
        help='where results go; by default the folder of the first checkpoint',
    )
    add('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE')
    args = parser.parse_args()
    if args.images is None and (others := {*args.show} - {'query'}):
        parser.error(f'--show {" ".join(sorted(others))} needs --images')
    if ('query' in args.show) != bool(args.query_images):
        parser.error('--show query and --query-images need one another')
    if args.query and 'query' not in args.show:
        parser.error('--query needs --show query')
    return args


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import numpy as np
from matplotlib.figure import Figure
from mmengine.dataset import Compose, default_collate
from mmpretrain.models import VisionTransformer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from mmpospretrain.checks import check_at_least
from mmpospretrain.datasets import ImageFolder, resolve_image_source
from mmpospretrain.engine.cli import facts, read_options, results_folder
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.evaluation.attention import head_statistics, position_correlation
from mmpospretrain.evaluation.attention_diversity import (
    Point,
    attention_diversity,
    patches_at,
    query_attention,
)
from mmpospretrain.evaluation.side_by_side import (
    Viewed,
    choose_names,
    load_viewed,
    pair_up,
)
from mmpospretrain.visualization import (
    as_rgb,
    find_images,
    load_sample,
    plot_attention_diversity,
    plot_position_correlation,
    plot_query_attention,
    plot_relative_maps,
)
from mmpospretrain.visualization.attention import check_heads


class Analysis(NamedTuple):
    """How something is measured and drawn."""

    load: Callable[[Viewed], DataLoader]
    """Images for a model."""
    measure: Callable[[VisionTransformer, Iterable[Tensor]], Any]
    """From a backbone and batches, a NamedTuple with a ``summary()``."""
    draw: Callable[[dict[str, Any]], Figure]
    """From what was measured, by the name of the model."""
    table: Callable[[dict[str, Any]], Table] | None = None
    """Likewise, to be printed."""


def to_pixels(query: list[str], size: int) -> Point:
    """A point as given, in pixels.

    Raises:
        ValueError: If it is no point of an image.
    """
    point = []
    for text in query:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f'--query takes two numbers, got {text!r}') from None
        if not text.lstrip('+-').isdecimal():
            if not 0 <= number <= 1:
                raise ValueError(
                    f'--query takes whole pixels, or shares from 0 to 1, got {text}'
                )
            number = min(number * size, size - 1)
        point.append(number)
    patches_at([point], (size, size), 1)
    return tuple(point)


def square(size: int) -> list[dict]:
    """Pipeline to the largest square in the middle, resized; the paper names none."""
    resize = dict(
        type='mmpretrain.ResizeEdge',
        scale=size,
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    )
    crop = dict(type='mmpretrain.CenterCrop', crop_size=size)
    return [resize, crop, dict(type='mmpretrain.PackInputs')]


def load_images(
    model: Viewed, size: int | None, args: argparse.Namespace
) -> DataLoader:
    """``--images`` as a square of some size, or as the config evaluates them.

    Broken ones are logged, and others take their places.

    Raises:
        FileNotFoundError: If there is no such folder or list.
        ValueError: If no image in it can be read, the size does not suit the model, or
            the config has no pipeline.
    """
    if size is not None:
        model.check_size(size, args.batch_size)
    elif model.pipeline is None:
        raise ValueError(
            f'{model.config} has no val_pipeline or test_pipeline for images: give '
            '--image-size'
        )
    train, val = resolve_image_source(args.images)
    pipeline = square(size) if size else model.pipeline
    images = ImageFolder(**(val or train), pipeline=pipeline, max_broken_share=1)
    if 0 < args.num_images < len(images):
        chosen = np.linspace(0, len(images) - 1, args.num_images).astype(int)
        images = images.get_subset(chosen.tolist())
    try:
        images[0]  # or the next that can be read
    except RuntimeError as error:
        raise ValueError(f'no image in {args.images} can be read') from error
    return DataLoader(
        images,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        collate_fn=default_collate,
    )


def load_queried(model: Viewed, samples: list[dict], size: int) -> DataLoader:
    """Images one by one.

    Raises:
        ValueError: If the size does not suit the model.
    """
    model.check_size(size, 1)
    return DataLoader(samples, collate_fn=default_collate)


def choose_analyses(args: argparse.Namespace) -> dict[str, Analysis]:
    """Those that ``--show`` names.

    Raises:
        FileNotFoundError: If an image to query is not there.
        ValueError: If it is broken, or a query is not in it.
    """
    own, size = args.image_size, args.image_size or SIZE
    chosen = {
        'relative': Analysis(
            partial(load_images, size=own, args=args),
            head_statistics,
            partial(plot_relative_maps, layers=args.layers, most_local=args.heads),
            entropy_table,
        ),
        'correlation': Analysis(
            partial(load_images, size=own, args=args),
            position_correlation,
            plot_position_correlation,
        ),
        'diversity': Analysis(
            partial(load_images, size=size, args=args),
            attention_diversity,
            plot_attention_diversity,
            diversity_table,
        ),
    }
    if 'query' in args.show:
        points = [to_pixels(query, size) for query in args.query or [('0.5', '0.5')]]
        pipeline = Compose(square(size))
        paths = find_images(args.query_images, MOST_QUERIED)
        samples = [load_sample(path, pipeline) for path in paths]
        images = [as_rgb(sample) for sample in samples]
        chosen['query'] = Analysis(
            partial(load_queried, samples=samples, size=size),
            partial(query_attention, points=points),
            partial(plot_query_attention, images=images, points=points),
        )
    return {what: chosen[what] for what in args.show}


def by_layer(title: str, caption: str, columns: dict[str, list[str]]) -> Table:
    """A table with a column for each model."""
    table = Table(title=title, caption=caption)
    table.add_column('layer')
    for head in columns:
        table.add_column(head, justify='right')
    rows = zip_longest(*columns.values(), fillvalue='')
    for number, cells in enumerate(rows, start=1):
        table.add_row(str(number), *cells)
    return table


def entropy_table(found: dict[str, Any]) -> Table:
    """Entropies as printed: the most local and the most global head of each layer."""
    columns = {}
    for name, statistics in found.items():
        largest = math.log(math.prod(statistics.grid_size))
        columns[f'{name}\nat most {largest:.2f}'] = [
            f'{heads.min():.2f}  {heads.max():.2f}' for heads in statistics.entropy
        ]
    return by_layer('Entropy of heads, lowest and highest', 'in nats', columns)


def diversity_table(found: dict[str, Any]) -> Table:
    """NMI and mean distance as printed."""
    columns = {}
    for name, diversity in found.items():
        summary = diversity.summary()
        pairs = zip(summary['nmi'], summary['distance'], strict=True)
        columns[name] = [f'{nmi:.3f}  {distance:5.1f}' for nmi, distance in pairs]
    return by_layer('NMI and mean distance of attention', 'in pixels', columns)


def main(args: argparse.Namespace) -> None:
    """Measure, print, draw, write."""
    with readable_errors():
        check_at_least('--num-images', args.num_images, 0)
        check_at_least('--batch-size', args.batch_size, 1)
        if args.image_size is not None:
            check_at_least('--image-size', args.image_size, 1)
        pairs = pair_up(args.models)
        names = choose_names([checkpoint for _, checkpoint in pairs], args.names)
        analyses = choose_analyses(args)
        models = [
            load_viewed(name, *pair, read_options(args.cfg_options))
            for name, pair in zip(names, pairs, strict=True)
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
        loaders = {
            what: [analysis.load(model) for model in models]
            for what, analysis in analyses.items()
        }
        out = results_folder(args.out, pairs[0][1])

        report: dict[str, Any] = {
            model.name: dict(config=model.config, checkpoint=model.checkpoint)
            for model in models
        }
        arrays, written = {}, []
        for what, analysis in analyses.items():
            found = {
                model.name: analysis.measure(
                    model.backbone, model.normalised(loader, what)
                )
                for model, loader in zip(models, loaders[what], strict=True)
            }
            for name, result in found.items():
                report[name][what] = result.summary()
                arrays |= {
                    f'{name}/{field}': value
                    for field, value in result._asdict().items()
                    if isinstance(value, np.ndarray)
                }
            analysis.draw(found).savefig(out / f'{what}.png', dpi=150)
            written.append(f'{what}.png')
            if analysis.table:
                Console().print(analysis.table(found))
        report = dict(arguments=vars(args), models=report, facts=facts())
        text = json.dumps(report, indent=2, default=str) + '\n'
        (out / 'attention.json').write_text(text, encoding='utf-8')
        np.savez_compressed(out / 'attention.npz', **arrays)
        written += ['attention.json', 'attention.npz']
        print(f'wrote {" and ".join(str(out / name) for name in written)}')


if __name__ == '__main__':
    main(args)
