"""The models that this project knows by name: configs, weights, results.

Written down in the ``metafile.yml`` beside the configs (see `metafile`), of this
project and, with ``3rdparty`` in their names, of others, whose weights start the
backbones of fine-tunings.
"""

import difflib
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from .fetch import fetch
from .loading import load_strict
from .metafile import MIM, metafiles, read_metafile


@dataclass(frozen=True)
class Result:
    """What a model reaches at one task; metrics by their names."""

    task: str
    dataset: str
    metrics: Mapping[str, float]
    setting: str = ''
    source: str = ''
    """Where it is reported, as ``'Tab. 1'``; '' if this project measured it."""
    seeds: int | None = None
    deviation: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation over the seeds, by metric."""
    baseline: Mapping[str, Any] = field(default_factory=dict)
    """What to compare with: ``Name``, ``Metrics``, ``Deviation``."""


@dataclass(frozen=True)
class Entry:
    """One model of the zoo."""

    name: str
    method: str
    config: Path | None
    """Of its pre-training; None if it is not of this project."""
    urls: tuple[str, ...]
    """Of its weights, in the order to be tried; none if they are not published."""
    filename: str | None
    """Of its weights in the cache."""
    sha256: str | None
    format: str | None
    """Of the keys; ``'mmpospretrain'`` is that of the whole model of ``config``."""
    licence: str | None
    by_hand: str | None
    """How to get weights that no program can fetch."""
    log: str | None
    """URL of the log of its training."""
    measured: tuple[Result, ...]
    reported: tuple[Result, ...]
    training: Mapping[str, Any]
    """``Epochs``, ``Batch Size``, ``Training Data``, ``Architecture``, where known."""

    @property
    def results(self) -> tuple[Result, ...]:
        """Measured and reported ones."""
        return self.measured + self.reported


@cache
def entries(root: Path = MIM) -> dict[str, Entry]:
    """All models by name, in the order of the metafiles.

    Raises:
        FileNotFoundError: If the index, or a metafile in it, is not there.
        ValueError: If a metafile is not valid, or a name is given twice.
    """
    found: dict[str, Entry] = {}
    for path in metafiles(root):
        for model in read_metafile(path)['Models']:
            if model['Name'] in found:
                raise ValueError(f'{path}: there are two models {model["Name"]!r}')
            found[model['Name']] = _entry(model, root)
    return found


def _entry(model: Mapping[str, Any], root: Path) -> Entry:
    checkpoint = model.get('Checkpoint') or {}
    first = [model['Weights']] if model.get('Weights') else []
    return Entry(
        name=model['Name'],
        method=model['In Collection'],
        config=root / model['Config'] if model.get('Config') else None,
        urls=(*first, *checkpoint.get('Mirrors', ())),
        filename=checkpoint.get('File'),
        sha256=checkpoint.get('SHA256'),
        format=checkpoint.get('Format'),
        licence=checkpoint.get('Licence'),
        by_hand=checkpoint.get('By Hand'),
        log=checkpoint.get('Log'),
        measured=_results(model.get('Results')),
        reported=_results(model.get('Reported')),
        training=model.get('Metadata', {}),
    )


def _results(items: list[Mapping[str, Any]] | None) -> tuple[Result, ...]:
    return tuple(
        Result(**{key.lower(): value for key, value in item.items()})
        for item in items or ()
    )


def find(name: str) -> Entry:
    """The model of a name.

    Raises:
        ValueError: If there is none; says which are alike.
    """
    known = entries()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3) or list_models(f'*{name}')
        hint = f'Did you mean {" or ".join(close[:3])}? ' if close else ''
        raise ValueError(
            f'there is no model {name!r} in the zoo. {hint}All of them: '
            'python -m mmpospretrain.zoo list'
        )
    return known[name]


def list_models(pattern: str | None = None) -> list[str]:
    """Names of models, as `mmpretrain.list_models` has them.

    Args:
        pattern: What names begin with, ``*`` for anything; None for all.
    """
    return sorted(fnmatch.filter(entries(), f'{pattern or ""}*'))


def fetch_entry(name: str) -> Path:
    """The file with the weights of a model, from the cache or from the web.

    Raises:
        FileNotFoundError: If there are none, or no source gives them; says what can be
            done by hand.
        ValueError: If there is no such model, or the file is not what it should be.
    """
    entry = find(name)
    if not entry.filename:
        raise FileNotFoundError(
            f'no weights of {name} are published: train them with {entry.config}'
        )
    try:
        return fetch(entry.urls, entry.filename, entry.sha256)
    except FileNotFoundError as error:
        if not entry.by_hand:
            raise
        raise FileNotFoundError(f'{error}\nBy hand: {entry.by_hand}.') from error


def get_model(
    name: str,
    pretrained: bool | str | Path = False,
    device: str | torch.device | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a model by its name, as `mmpretrain.get_model` does.

    Args:
        name: One of `list_models`.
        pretrained: True for the published weights, or the path of a checkpoint. They
            are loaded strictly: all of them fit, or it is an error.
        device: Where to put the model; None leaves it on the CPU.
        **kwargs: Changes to ``model`` in the config: ``mask_ratio=0.5``.

    Returns:
        The model, in eval mode.

    Raises:
        FileNotFoundError: If there are no weights.
        ValueError: If there is no such model, or its weights are those of a backbone
            alone, or do not fit.
    """
    entry = find(name)
    if entry.config is None:
        raise ValueError(
            f'{name} is a backbone, and no model of this project: start one of your '
            "own from it, init_cfg=dict(type='mmpospretrain.PretrainedBackbone', "
            f"checkpoint='zoo://{name}')"
        )
    from mmpretrain.apis import get_model as build  # it imports models, they the zoo

    cfg = Config.fromfile(entry.config)
    # MMPretrain reads what its data sets are about from here, and ours have no classes.
    cfg.pop('test_dataloader', None)
    model = build(cfg, **kwargs)
    if pretrained:
        load_strict(model, fetch_entry(name) if pretrained is True else pretrained)
    return model if device is None else model.to(device)
