"""Publish weights: ``python tools/publish_model.py CONFIG CHECKPOINT [--url BASE]``.

Writes ``NAME-HASH.safetensors``, with all weights and the model of the config, and
without optimizer, schedules, hooks and logs; then notes it in the ``metafile.yml``
beside the config. The zoo knows the configs in ``configs/METHOD/`` alone: copy one of
your own there, and add it to that file, first. A checkpoint that is not whole, or not
one of the config, is refused. Once the weights are in BASE, everybody with that
metafile has them as ``zoo://NAME``. Without ``--url`` they are had from mirrors alone,
MMPOSPRETRAIN_MIRROR.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Publish the weights of a model.')
    parser.add_argument(
        'config', type=Path, help='that it was trained with, in configs/METHOD/'
    )
    parser.add_argument('checkpoint', type=Path, help='checkpoint of MMEngine')
    parser.add_argument(
        '--name', help='in the zoo (default: that of the config, without .py)'
    )
    parser.add_argument(
        '--out-dir',
        dest='out',
        type=Path,
        default='work_dirs/published',
        metavar='DIR',
        help='where the file goes (default: work_dirs/published)',
    )
    parser.add_argument('--url', metavar='BASE', help='folder on the web it will be in')
    parser.add_argument('--log', metavar='URL', help='log of the training')
    parser.add_argument(
        '--licence', default='Apache-2.0', help='of the weights (default: Apache-2.0)'
    )
    parser.add_argument(
        '--metafile',
        type=Path,
        help='to note it in, of the same configs/ (default: the one beside the config)',
    )
    return parser.parse_args()


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import pooch
import torch
from mmengine.config import Config
from torch import Tensor

from mmpospretrain.engine.cli import load_config, load_model
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.version import __version__
from mmpospretrain.zoo.loading import METADATA, load_checkpoint_file, state_dict_of
from mmpospretrain.zoo.metafile import (
    check_name,
    config_path,
    read_metafile,
    write_model,
)
from mmpospretrain.zoo.saving import save_safetensors
from mmpospretrain.zoo.trained_config import model_options

KEPT = ('epoch', 'iter', 'seed', 'dataset_meta')  # of the meta of a checkpoint


def check_trained_with(cfg: Config, meta: dict[str, Any], config: Path) -> None:
    """Check that a checkpoint was trained with this config, and not with options of it.

    Raises:
        ValueError: If its model is another one; names the entries.
    """
    trained = model_options({'meta': meta})
    if not trained:  # of no MMEngine of today
        return
    # Both as written: a type that is a class has its dotted path there, too.
    given = model_options({'meta': dict(cfg=cfg.pretty_text)})
    here, there = _flat(given), _flat(trained)
    if different := [
        f'{key} is {there.get(key, "not set")}, not {here.get(key, "not set")}'
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key) and 'init_cfg' not in key
    ]:
        raise ValueError(
            f'the checkpoint was trained with another model than that of {config}: '
            f'{"; ".join(different)}. Write a config that says so, and give that'
        )


def _flat(value: Any, key: str = 'model') -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: list(value) if isinstance(value, tuple) else value}
    return {
        k: v for name, x in value.items() for k, v in _flat(x, f'{key}.{name}').items()
    }


def check_finite(weights: dict[str, Tensor]) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        ValueError: Names those that are.
    """
    bad = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f'these weights are not finite: {", ".join(bad[:5])}')


def save(
    weights: dict[str, Tensor], cfg: Config, meta: dict, out: Path, name: str
) -> tuple[Path, str]:
    """Write the file.

    Of the config, what builds the model is kept; the rest has paths of this machine.

    Returns:
        Its path, and its SHA-256, whose first digits are in the name.
    """
    keys = ('default_scope', 'data_preprocessor', 'model')
    model_cfg = Config({key: cfg[key] for key in keys if key in cfg})
    kept = {key: meta[key] for key in KEPT if key in meta}
    kept |= {'cfg': model_cfg.pretty_text, 'mmpospretrain': __version__}
    out.mkdir(parents=True, exist_ok=True)
    unnamed = out / f'{name}.safetensors.part'
    save_safetensors(weights, unnamed, {METADATA: json.dumps(kept)})
    sha256 = pooch.file_hash(str(unnamed))
    return unnamed.replace(out / f'{name}-{sha256[:8]}.safetensors'), sha256


def known_model(metafile: Path, name: str, config: str) -> dict[str, Any]:
    """What the metafile says of a model: of that name, or else of the same config.

    Raises:
        FileNotFoundError: If there is no metafile.
        ValueError: If there is no such model.
    """
    if not metafile.is_file():
        raise FileNotFoundError(f'there is no {metafile}: give --metafile')
    models = read_metafile(metafile)['Models']
    for key, value in (('Name', name), ('Config', config)):
        for model in models:
            if model.get(key) == value:
                return {k: model[k] for k in ('In Collection', 'Metadata')}
    raise ValueError(
        f'{metafile} has neither a model {name!r} nor one of {config}: add it, with '
        'Name, In Collection, Metadata, Config'
    )


def main(args: argparse.Namespace) -> None:
    """Check, write, note."""
    name = args.name or args.config.stem
    metafile = args.metafile or args.config.with_name('metafile.yml')
    with readable_errors():
        check_name(name)
        cfg = load_config(str(args.config))
        config = config_path(
            args.config.resolve(), args.metafile and args.metafile.resolve()
        )
        known = known_model(metafile, name, config)
        load_model(cfg, str(args.checkpoint))  # strictly
        checkpoint = load_checkpoint_file(args.checkpoint)
        meta = checkpoint.get('meta', {})
        check_trained_with(cfg, meta, args.config)
        weights = state_dict_of(checkpoint)
        check_finite(weights)
        path, sha256 = save(weights, cfg, meta, args.out, name)
        note = {'Format': 'mmpospretrain', 'Licence': args.licence}
        note |= {'File': path.name, 'SHA256': sha256}
        if args.log:
            note['Log'] = args.log
        weights_url = args.url and f'{args.url.rstrip("/")}/{path.name}'
        model = {'Name': name, **known, 'Config': config, 'Weights': weights_url}
        write_model(metafile, {**model, 'Checkpoint': note})
    print(f'wrote {path}, sha256 {sha256}\nnoted {name} in {metafile}')


if __name__ == '__main__':
    main(args)
