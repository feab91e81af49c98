"""Evaluate classifiers together: ``tools/test_ensemble.py CONFIG CHECKPOINT …``.

Give two models or more, as Sec. 4.2.3 of MP3, which puts one that was pre-trained by
MP3 beside one by MAE: their outputs for an image are averaged, by default before the
softmax. Each model reads the test images of its own config through its own pipeline;
they must be the same images. The metrics of the first config judge the models one by
one, and together. Prints a table, and writes ``ensemble.json``.
"""

import argparse
import json
import math
import string
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description='Evaluate fine-tuned classifiers one by one, and together.'
    )
    add = parser.add_argument
    add(
        'models',
        nargs='+',
        metavar='CONFIG CHECKPOINT',
        help='config file and checkpoint of every model, two or more',
    )
    add('--data', metavar='DIR', help='images of all (default: as the configs say)')
    add(
        '--weights',
        nargs='+',
        type=float,
        metavar='W',
        help='of the models; only their proportions matter (default: all alike)',
    )
    add(
        '--average',
        choices=('logits', 'probabilities'),
        default='logits',
        help='what is averaged: before the softmax, or after it (default: logits)',
    )
    add(
        '--out-dir',
        dest='out',
        type=Path,
        default='work_dirs/ensemble',
        metavar='DIR',
        help='where ensemble.json goes (default: work_dirs/ensemble)',
    )
    add(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='override entries of all configs: test_dataloader.batch_size=256',
    )
    args = parser.parse_args()
    number, rest = divmod(len(args.models), 2)
    if rest:
        parser.error(
            'give CONFIG CHECKPOINT CONFIG CHECKPOINT ..., got an odd number: '
            f'{" ".join(args.models)}'
        )
    if number < 2:
        parser.error('give two models or more; tools/test.py evaluates one')
    args.weights = args.weights or [1.0] * number
    if len(args.weights) != number:
        parser.error(f'{number} models need {number} --weights, not {args.weights}')
    if min(args.weights) < 0 or not 0 < sum(args.weights) < math.inf:
        parser.error(f'--weights must be 0 or more, and not all 0; got {args.weights}')
    return args


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader

from mmpospretrain.engine.cli import (
    build_test_loader,
    facts,
    load_config,
    load_model,
    read_options,
    results_folder,
    set_test_data,
)
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.engine.options import options_kept
from mmpospretrain.evaluation.ensemble import (
    average_scores,
    check_classifier,
    check_same,
    contents,
    evaluate_scores,
    predict_logits,
)
from mmpospretrain.evaluation.frozen import chance
from mmpospretrain.zoo import local_file

LETTERS = string.ascii_uppercase  # of the models in the table


class Member(NamedTuple):
    """A model of the ensemble."""

    config: str
    checkpoint: str
    cfg: Config
    model: BaseModel
    """On the CPU while others run."""
    loader: DataLoader
    """Of its test images."""


def build(config: str, checkpoint: str, args: argparse.Namespace) -> Member:
    """A model with all its weights, and the loader of its test images.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint, or no data.
        ValueError: If the checkpoint is one of another model, or the model can't be
            in an ensemble, or the config has no test.
    """
    options = read_options(args.cfg_options)
    cfg = load_config(config, options)
    model = load_model(cfg, str(local_file(checkpoint))).cpu()
    check_classifier(model, config)
    if not (cfg.get('test_dataloader') and cfg.get('test_evaluator')):
        raise ValueError(f'{config} has no test_dataloader, or no test_evaluator')
    kept = partial(options_kept, cfg, options)
    with kept(f'--data {args.data}', may_go=('val_', 'test_')):
        set_test_data(cfg, config, args.data)
    with kept('an ensemble, which reads every loader once,'):
        cfg.test_dataloader.persistent_workers = False
    loader = build_test_loader(cfg)
    return Member(config, checkpoint, cfg, model, loader)


def build_all(args: argparse.Namespace) -> list[Member]:
    """The models. What does not fit is found here, before any of them runs.

    Raises:
        FileNotFoundError: As `build`.
        ValueError: As `build`, or if the models know other classes or read other
            images than the first.
    """
    pairs = zip(args.models[::2], args.models[1::2], strict=True)
    first, *others = members = [build(*pair, args) for pair in pairs]
    expected = contents(first.loader)
    for other in others:
        names = (first.config, other.config)
        numbers = [getattr(m.model.head, 'num_classes', None) for m in (first, other)]
        if len({*numbers}) > 1:
            a, b = map('{} has {}'.format, names, numbers)
            raise ValueError(f'an ensemble needs the same classes; {a}, and {b}')
        check_same(expected, contents(other.loader), names)
    return members


def run(member: Member) -> tuple[Tensor, list[DataSample]]:
    """What `predict_logits` returns; the GPU, if there is one, holds no other model."""
    model = member.model.to(get_device())
    result = predict_logits(model, member.loader, Path(member.config).stem)
    model.cpu()
    return result


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Metrics of each model, of the ensemble, and what it gains over the best model."""
    members = build_all(args)
    evaluator = Evaluator(members[0].cfg.test_evaluator)
    evaluator.dataset_meta = members[0].loader.dataset.metainfo
    logits, samples = zip(*map(run, members), strict=True)
    alone = [
        evaluate_scores(evaluator, s, x.softmax(dim=1))
        for s, x in zip(samples, logits, strict=True)
    ]
    averaged = average_scores(logits, args.weights, args.average)
    together = evaluate_scores(evaluator, samples[0], averaged)
    numbers = [name for name, value in together.items() if isinstance(value, float)]
    return dict(
        images=len(averaged),
        chance=chance(np.array([int(sample.gt_label) for sample in samples[0]])),
        models=[
            dict(
                config=m.config, checkpoint=m.checkpoint, weight=weight, metrics=metrics
            )
            for m, weight, metrics in zip(members, args.weights, alone, strict=True)
        ],
        ensemble=together,
        gain={
            name: together[name] - max(metrics[name] for metrics in alone)
            for name in numbers
        },
    )


def to_rich(result: dict[str, Any], average: str) -> Table:
    """The table as printed; metrics that are no single number are in the file alone."""
    models, gain = result['models'], result['gain']
    table = Table(
        title=f'{result["images"]} images, {average} averaged',
        caption=f'the most frequent class: {result["chance"]:.2f} %',
    )
    table.add_column('model')
    for name in ('weight', *gain):
        table.add_column(name, justify='right')
    for letter, model in zip(LETTERS, models, strict=False):
        figures = (f'{model["metrics"][name]:.2f}' for name in gain)
        table.add_row(letter, f'{model["weight"]:g}', *figures)
    table.add_section()
    table.add_row('ensemble', '', *(f'{result["ensemble"][name]:.2f}' for name in gain))
    table.add_row('gain over the best', '', *(f'{x:+.2f}' for x in gain.values()))
    return table


def main(args: argparse.Namespace) -> None:
    """Evaluate, print, write."""
    with readable_errors():
        result = evaluate(args)
        for letter, model in zip(LETTERS, result['models'], strict=False):
            print(letter, model['config'], model['checkpoint'])
        Console().print(to_rich(result, args.average))
        arguments = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(args).items()
        }
        report = dict(arguments=arguments, **result, facts=facts())
        path = results_folder(args.out, args.models[1]) / 'ensemble.json'
        path.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
        print(f'wrote {path}')


if __name__ == '__main__':
    main(args)
