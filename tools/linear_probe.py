"""How good are frozen features? ``linear_probe.py CONFIG CHECKPOINT --train --val``.

Features are average-pooled patch tokens, of the last layer or of the last four side by
side, as StoP evaluates (Tab. 1). They are extracted once and kept; logistic regression
runs on them, and chooses its regularisation on a part of the training set. ``--knn``
adds nearest neighbours, ``--all-layers`` shows them layer by layer, and ``--compare``
does beside other checkpoints (Fig. 9 of MP3).

CHECKPOINT ``none`` measures random weights: what is learned has to be better. For all
of ImageNet-1K, MMPretrain's SGD trains a head in configs/transfer/classification.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table

from mmpospretrain.datasets import ImageFolder
from mmpospretrain.engine.cli import facts, load_config, readable_errors
from mmpospretrain.evaluation.features import (
    FeatureCache,
    Features,
    extract_features,
    frozen_encoder,
    labelled_images,
    labels_of,
)
from mmpospretrain.evaluation.frozen import choose_labels, knn_accuracy, linear_probe
from mmpospretrain.models import PositionViT
from mmpospretrain.visualization import plot_curve
from mmpospretrain.zoo import load_backbone, local_file

LAYERS = {'last': 1, 'last4': 4}
IMAGES = 'folder with a folder for each class, or a text file of "path label" lines'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Classify by frozen features.')
    add = parser.add_argument
    add('config', help='config file of a pre-training')
    add('checkpoint', help='checkpoint file, or none: random weights')
    add('--train', required=True, type=Path, metavar='DIR', help=IMAGES)
    add('--val', required=True, type=Path, metavar='DIR', help='likewise')
    add('--layers', choices=[*LAYERS], default='last', help='default: last')
    add(
        '--labels',
        default='100%',
        metavar='SHARE',
        help='share or number of the training labels: 1%%, 100%%, 1000; of all classes '
        'alike, at random. For a given list, make it the --train file',
    )
    add('--knn', type=int, metavar='K', help='also by the K nearest neighbours (20)')
    add(
        '--all-layers',
        action='store_true',
        help='nearest neighbours by each layer; 0 is what goes into the first',
    )
    add(
        '--compare',
        nargs='+',
        default=[],
        metavar='NAME=PATH',
        help='with --all-layers: draw curves of earlier runs too, each the folder of a '
        'linear_probe.json, or such a file',
    )
    add('--name', help='of this checkpoint beside others; by default its file')
    add('--seed', type=int, default=0, help='of labels, of splits, of random weights')
    add('--batch-size', type=int, default=64, metavar='B')
    add('--num-workers', type=int, default=2, metavar='N', help='to read images')
    add(
        '--out',
        type=Path,
        metavar='DIR',
        help='where results and features go; by default the folder of the checkpoint',
    )
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    if args.compare and not args.all_layers:
        parser.error('--compare needs --all-layers')
    if args.all_layers and not args.knn:
        args.knn = 20
    args.name = args.name or Path(args.checkpoint).stem
    return args


def build_backbone(cfg: Config, checkpoint: str, seed: int) -> PositionViT:
    """The backbone of a pre-training, frozen.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it does not fit, or the config has another kind of backbone.
    """
    torch.manual_seed(seed)
    backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None})
    backbone = frozen_encoder(backbone)
    if checkpoint == 'none':
        backbone.init_weights()
    else:
        load_backbone(backbone, checkpoint)
    return backbone.to(get_device()).eval()


class Extractor:
    """Features of data sets by one backbone, kept on disk.

    Args:
        args: Command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        if 'val_pipeline' not in cfg:
            raise ValueError(f'{args.config} has no val_pipeline, for images to probe')
        self.pipeline = cfg.val_pipeline
        self.backbone = build_backbone(cfg, args.checkpoint, args.seed)
        device = next(self.backbone.parameters()).device
        self.preprocessor = MODELS.build(cfg.data_preprocessor).to(device)
        number = self.backbone.num_layers
        count = min(LAYERS[args.layers], number)
        self.wanted = slice(-count, None)
        self.layers = range(-1 if args.all_layers else number - count, number)
        random = args.checkpoint == 'none'
        self.cache = FeatureCache(
            args.out / 'features',
            dict(
                weights=args.seed if random else pooch.file_hash(args.checkpoint),
                backbone=cfg.model.backbone.to_dict(),
                pipeline=self.pipeline,
                preprocessor=cfg.data_preprocessor.to_dict(),
            ),
        )

    def __call__(self, dataset: ImageFolder, title: str) -> Features:
        """Features of a data set, from the cache if they are there."""
        path = self.cache.path(dataset, self.layers)
        features = self.cache.load(path)
        if features is None:
            features = extract_features(
                self.backbone,
                self.preprocessor,
                dataset,
                self.layers,
                self.args.batch_size,
                self.args.num_workers,
                title,
            )
            self.cache.save(path, features)
        return features


def data_id(*datasets: ImageFolder) -> str:
    """Stands for the names and labels of images, wherever their folders are."""
    infos = (d.get_data_info(index) for d in datasets for index in range(len(d)))
    images = [(Path(info['img_path']).name, int(info['gt_label'])) for info in infos]
    return hashlib.sha256(json.dumps(images).encode()).hexdigest()[:16]


def split_entry(entry: str) -> tuple[str, str]:
    """Name and path of ``NAME=PATH``, where both may hold an equals sign: η=0.75."""
    parts = entry.split('=')
    splits = [('='.join(parts[:k]), '='.join(parts[k:])) for k in range(1, len(parts))]
    there = [split for split in splits if Path(split[1]).expanduser().exists()]
    return [*there, *splits[::-1], ('', entry)][0]


def read_earlier(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What earlier runs that ``--compare`` names have written, by name.

    Raises:
        FileNotFoundError: If there is no result at a path.
        ValueError: If it has no curve, one of other neighbours, or no name of its own.
    """
    earlier: dict[str, dict[str, Any]] = {}
    for entry in args.compare:
        name, path = split_entry(entry)
        if not name or name in {args.name, *earlier}:
            raise ValueError(
                f'--compare takes NAME=PATH, each name once and not {args.name!r}, '
                f'which is --name; got {entry!r}'
            )
        path = Path(path).expanduser()
        path = path / 'linear_probe.json' if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f'--compare: there is no {path}')
        try:
            report = json.loads(path.read_text(encoding='utf-8'))
            curve = {int(layer): x for layer, x in report['knn_by_layer'].items()}
            k = report['arguments']['knn']
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'--compare: {path} has no curve; it is not from linear_probe.py with '
                '--all-layers'
            ) from error
        if k != str(args.knn):
            raise ValueError(
                f'--compare: {path} is of {k} neighbours, this run of {args.knn}'
            )
        earlier[name] = {**report, 'knn_by_layer': curve}
    return earlier


def evaluate(
    args: argparse.Namespace, earlier: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Everything that was asked for, in percent, if earlier runs had the same data."""
    extract = Extractor(args)
    train = labelled_images(args.train, extract.pipeline)
    val = labelled_images(args.val, extract.pipeline, like=train)
    chosen = choose_labels(np.array(labels_of(train)), args.labels, args.seed)
    train = train.get_subset(chosen.tolist())
    data = data_id(train, val)
    for name, report in earlier.items():
        if report.get('data') != data:
            raise ValueError(
                f'--compare: {name} was measured on other images or labels, or by an '
                'earlier version: measure it again with the same --train, --val, '
                '--labels and --seed'
            )
    features = extract(train, 'training images'), extract(val, 'validation images')
    result: dict[str, Any] = dict(
        layers=args.layers, train_images=len(train), val_images=len(val), data=data
    )
    ours = [f.select(extract.wanted) for f in features]
    with Console().status('logistic regression'):
        result['linear'], result['C'] = linear_probe(*ours, seed=args.seed)
    if args.knn:
        with Console().status('nearest neighbours'):
            result['knn'] = knn_accuracy(*ours, args.knn)
            if args.all_layers:
                result['knn_by_layer'] = {
                    layer + 1: knn_accuracy(
                        *(f.select(slice(i, i + 1)) for f in features), args.knn
                    )
                    for i, layer in enumerate(extract.layers)
                }
    counts = np.bincount(features[1].labels)
    result['chance'] = 100 * counts.max() / counts.sum()
    return result


def to_rich(result: dict[str, Any], args: argparse.Namespace) -> Table:
    """The table as printed."""
    table = Table(
        title=f'Top-1 of {result["val_images"]} images, %',
        caption=f'{result["train_images"]} labels; '
        f'the most frequent class: {result["chance"]:.1f}',
    )
    table.add_column('frozen features')
    table.add_column('top-1', justify='right')
    linear = f'{args.layers}, logistic regression, C = {result["C"]:g}'
    table.add_row(linear, f'{result["linear"]:.2f}')
    if args.knn:
        table.add_row(f'{args.layers}, {args.knn} neighbours', f'{result["knn"]:.2f}')
    for layer, accuracy in result.get('knn_by_layer', {}).items():
        table.add_row(f'layer {layer}, {args.knn} neighbours', f'{accuracy:.2f}')
    return table


def main() -> None:
    """Evaluate, print, write."""
    args = parse_args()
    with readable_errors():
        if args.checkpoint != 'none':
            args.checkpoint = str(local_file(args.checkpoint))
        if args.out is None:
            random = Path('work_dirs/random')
            parent = Path(args.checkpoint).parent
            args.out = random if args.checkpoint == 'none' else parent
        earlier = read_earlier(args)
        result = evaluate(args, earlier)
        Console().print(to_rich(result, args))
        written = ['linear_probe.json']
        arguments = {key: str(value) for key, value in vars(args).items()}
        report = dict(arguments=arguments, **result, facts=facts())
        text = json.dumps(report, indent=2) + '\n'
        (args.out / written[0]).write_text(text, encoding='utf-8')
        if args.all_layers:
            runs = {**earlier, args.name: result}
            curves = {name: run['knn_by_layer'] for name, run in runs.items()}
            chance = f'most frequent class, {result["chance"]:.1f} %', result['chance']
            figure = plot_curve(curves, 'kNN top-1, %', chance, xlabel='layer')
            figure.axes[0].xaxis.get_major_locator().set_params(integer=True)
            figure.savefig(args.out / 'knn_by_layer.png', dpi=150)
            written.append('knn_by_layer.png')
        print(f'wrote {" and ".join(str(args.out / name) for name in written)}')


if __name__ == '__main__':
    main()
