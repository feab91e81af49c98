"""How good are frozen features? ``linear_probe.py CONFIG CHECKPOINT --train --val``.

Features are average-pooled patch tokens, of the last layer or of the last four side by
side, as StoP evaluates (Tab. 1). They are extracted once and kept; logistic regression
runs on them, and chooses its regularisation on a part of the training set. ``--knn``
adds nearest neighbours, ``--all-layers`` shows them layer by layer, and ``--compare``
does beside other checkpoints (Fig. 9 of MP3).

CHECKPOINT ``none`` measures random weights, as training starts from them: what is
learned has to be better. For all of ImageNet-1K, MMPretrain's SGD trains a head in
configs/transfer/classification.

Results go into files that are named after the checkpoint, and after layers, labels and
seed where they are not the default: ``linear_probe_epoch_14_last4.json``.
"""

import argparse
import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

LAYERS = {'last': 1, 'last4': 4}
IMAGES = 'folder with a folder for each class, or a text file of "path label" lines'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Classify by frozen features.')
    add = parser.add_argument
    add('config', help='config file of a pre-training, a fine-tuning or a ViT')
    add(
        'checkpoint',
        help='of this suite or released by others (DINOv2, MAE, timm, Hugging Face), '
        'or none: random weights',
    )
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
        help='with --all-layers: draw curves of earlier runs too, each a '
        'linear_probe_….json, or the folder of a single one',
    )
    add('--name', help='of this checkpoint beside others; by default its file')
    add('--seed', type=int, default=0, help='of labels, of splits, of random weights')
    add('--batch-size', type=int, default=64, metavar='B')
    add('--num-workers', type=int, default=2, metavar='N', help='to read images')
    add(
        '--max-broken-share',
        type=float,
        default=0.01,
        metavar='SHARE',
        help='of images that cannot be read, 0 to 1, above which it stops; they are '
        'left out (0.01)',
    )
    add(
        '--out-dir',
        dest='out',
        type=Path,
        metavar='DIR',
        help='where results and features go; by default the folder of the checkpoint',
    )
    add('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE')
    args = parser.parse_args()
    if args.compare and not args.all_layers:
        parser.error('--compare needs --all-layers')
    if args.all_layers and args.knn is None:
        args.knn = 20
    args.name = args.name or Path(args.checkpoint).stem
    return args


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import numpy as np
import pooch
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table
from torch import nn

from mmpospretrain.checks import check_at_least
from mmpospretrain.datasets import ImageFolder
from mmpospretrain.engine.cli import (
    facts,
    load_config,
    read_options,
    results_folder,
)
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.evaluation.earlier_probes import read_earlier
from mmpospretrain.evaluation.encoders import (
    build_backbone,
    build_preprocessor,
    load_frozen,
)
from mmpospretrain.evaluation.features import (
    FeatureCache,
    Features,
    extract_features,
    frozen_encoder,
    labelled_images,
    labels_of,
)
from mmpospretrain.evaluation.frozen import (
    Probe,
    chance,
    check_neighbours,
    check_two_of_each,
    choose_labels,
    knn_accuracy,
    linear_probe,
)
from mmpospretrain.models import PositionViT
from mmpospretrain.visualization import plot_curve
from mmpospretrain.zoo import local_file
from mmpospretrain.zoo.pretrained import evaluated_part, without_pretrained


def check_numbers(args: argparse.Namespace) -> None:
    """Raise a ValueError if a number on the command line is out of range."""
    check_at_least('--batch-size', args.batch_size, 1)
    for option in ('--num-workers', '--seed'):
        check_at_least(option, getattr(args, option[2:].replace('-', '_')), 0)
    if args.knn is not None:
        check_at_least('--knn', args.knn, 1)


def frozen_backbone(cfg: Config, checkpoint: str, seed: int) -> PositionViT:
    """The backbone of a pre-training, frozen.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it does not fit, or the config has another kind of backbone.
    """
    if checkpoint == 'none':
        backbone = frozen_encoder(untrained_backbone(cfg, seed))
        return backbone.to(get_device()).eval()
    backbone = frozen_encoder(build_backbone(cfg, checkpoint))
    return load_frozen(backbone, cfg, checkpoint)


def untrained_backbone(cfg: Config, seed: int) -> nn.Module:
    """The backbone that training starts from: of a whole model, which initialises it.

    What the config would load is random, too.
    """
    model_cfg = without_pretrained(cfg.model)
    model_cfg['backbone'] = without_pretrained(cfg.model.backbone)
    torch.manual_seed(seed)
    model = MODELS.build(model_cfg)
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # it would list how each parameter was made
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
    return getattr(model, evaluated_part(model) or 'backbone')


class Extractor:
    """Features of data sets by one backbone, kept on disk.

    Args:
        args: Command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        cfg = load_config(args.config, read_options(args.cfg_options))
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        if 'val_pipeline' not in cfg:
            raise ValueError(f'{args.config} has no val_pipeline, for images to probe')
        self.pipeline = cfg.val_pipeline
        self.backbone = frozen_backbone(cfg, args.checkpoint, args.seed)
        self.preprocessor = build_preprocessor(cfg)
        number = self.backbone.num_layers
        count = min(LAYERS[args.layers], number)
        self.wanted = slice(-count, None)
        self.layers = range(-1 if args.all_layers else number - count, number)
        # Random weights follow from the whole model: its other parts draw numbers too.
        random = args.checkpoint == 'none' and [args.seed, cfg.model.to_dict()]
        self.cache = FeatureCache(
            args.out / 'features',
            dict(
                weights=random or pooch.file_hash(args.checkpoint),
                backbone=cfg.model.backbone.to_dict(),
                pipeline=self.pipeline,
                preprocessor=cfg.to_dict().get('data_preprocessor'),
            ),
        )

    def __call__(self, dataset: ImageFolder, title: str) -> Features:
        """Features of a data set, from the cache if they are there.

        Raises:
            BrokenImagesError: If too many images cannot be read.
        """
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


def file_name(args: argparse.Namespace) -> str:
    """What tells the files of this run from those of others in the same folder."""
    random = args.checkpoint == 'none'
    parts = [f'none_{Path(args.config).stem}' if random else Path(args.checkpoint).stem]
    if args.layers != 'last':
        parts.append(args.layers)
    if args.labels != '100%':
        parts.append(args.labels.replace('%', 'pct'))
    if args.seed:
        parts.append(f'seed{args.seed}')
    return '_'.join(parts)


def warn_of_common_images(train: ImageFolder, val: ImageFolder) -> None:
    """Say so if there are images that are both learned from and classified."""
    sides = (
        {Path(d.get_data_info(i)['img_path']).resolve() for i in range(len(d))}
        for d in (train, val)
    )
    if common := set.intersection(*sides):
        print(
            f'warning: {len(common)} validation images are training images too, such '
            f'as {min(common)}: accuracy says less than it seems to',
            file=sys.stderr,
        )


def evaluate(
    args: argparse.Namespace, earlier: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Everything that was asked for, in percent, if earlier runs had the same data."""
    extract = Extractor(args)
    share = args.max_broken_share
    train = labelled_images(args.train, extract.pipeline, max_broken_share=share)
    val = labelled_images(args.val, extract.pipeline, train, share)
    chosen = choose_labels(np.array(labels_of(train)), args.labels, args.seed)
    train = train.get_subset(chosen.tolist())
    check_two_of_each(np.array(labels_of(train)))
    if args.knn:
        check_neighbours('--knn', args.knn, len(train))
    warn_of_common_images(train, val)
    data = data_id(train, val)
    for name, report in earlier.items():
        if report.get('data') != data:
            raise ValueError(
                f'--compare: {name} was measured on other images or labels, or by an '
                'earlier version: measure it again with the same --train, --val, '
                '--labels and --seed'
            )
    features = extract(train, 'training images'), extract(val, 'validation images')
    counts = [len(f.labels) for f in features]
    result: dict[str, Any] = dict(
        layers=args.layers,
        train_images=counts[0],
        val_images=counts[1],
        left_out=len(train) + len(val) - sum(counts),
        data=data,
    )
    ours = [f.select(extract.wanted) for f in features]
    title = 'logistic regression'
    result['linear'], result['C'] = linear_probe(*ours, args.seed, title)
    if args.knn:
        title = 'nearest neighbours'
        result['knn'] = knn_accuracy(*ours, args.knn, title)
        if args.all_layers:
            result['knn_by_layer'] = {
                layer + 1: knn_accuracy(
                    *(f.select(slice(i, i + 1)) for f in features),
                    args.knn,
                    f'{title}, layer {layer + 1}',
                )
                for i, layer in enumerate(extract.layers)
            }
    result['chance'] = chance(features[1].labels)
    return result


def to_rich(result: dict[str, Any], args: argparse.Namespace) -> Table:
    """The table as printed."""
    left_out = ''
    if count := result['left_out']:
        left_out = f'; {count} images that cannot be read are left out'
    table = Table(
        title=f'Top-1 of {result["val_images"]} images, %',
        caption=f'{result["train_images"]} labels; '
        f'the most frequent class: {result["chance"]:.1f}{left_out}',
    )
    table.add_column('frozen features')
    table.add_column('top-1', justify='right')
    linear = f'{args.layers}, logistic regression, C = {result["C"]:g}'
    if Probe(result['linear'], result['C']).at_edge:
        linear += ', the edge of those tried'
    table.add_row(linear, f'{result["linear"]:.2f}')
    if args.knn:
        table.add_row(f'{args.layers}, {args.knn} neighbours', f'{result["knn"]:.2f}')
    for layer, accuracy in result.get('knn_by_layer', {}).items():
        table.add_row(f'layer {layer}, {args.knn} neighbours', f'{accuracy:.2f}')
    return table


def main(args: argparse.Namespace) -> None:
    """Evaluate, print, write."""
    with readable_errors():
        check_numbers(args)
        random = args.checkpoint == 'none'
        given = 'work_dirs/random/none' if random else args.checkpoint
        args.out = results_folder(args.out, given)
        if not random:
            args.checkpoint = str(local_file(args.checkpoint))
        earlier = read_earlier(args.compare, args.name, args.knn)
        result = evaluate(args, earlier)
        Console().print(to_rich(result, args))
        name = file_name(args)
        written = [f'linear_probe_{name}.json']
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
            written.append(f'knn_by_layer_{name}.png')
            figure.savefig(args.out / written[1], dpi=150)
        print(f'wrote {" and ".join(str(args.out / file) for file in written)}')


if __name__ == '__main__':
    main(args)
