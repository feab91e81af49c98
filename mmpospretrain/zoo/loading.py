"""Checkpoints are loaded safely and whole, or not at all.

A ``.pth`` is a pickle, and unpickling can run any code. Everything here, and through
`register_loaders` every checkpoint MMEngine loads, goes through ``weights_only=True``
with a short list of harmless types beside tensors: what MMEngine itself puts into
a checkpoint. There is no fallback.
"""

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from mmengine.fileio import get
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from .checkpoint_state import set_aside
from .fetch import fetch_url
from .safe_pickle import safe_globals

REMOTE = ('http://', 'https://', 'zoo://')  # addresses whose file `download` gets
# Where ``tools/publish_model.py`` puts the meta of a checkpoint, as JSON.
METADATA = 'mmpospretrain'
MapLocation = str | torch.device | Callable | Mapping | None


def load_checkpoint_file(
    path: str | Path, map_location: MapLocation = 'cpu'
) -> dict[str, Any]:
    """Read a ``.pth`` or ``.safetensors`` file without running any code from it.

    Args:
        path: The file.
        map_location: As in `torch.load`, but None is the CPU, wherever the weights
            were saved. ``.safetensors`` are read to the CPU.

    Returns:
        The checkpoint, or the state dict where the file holds nothing else.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated, no checkpoint at all, or a pickle of more than tensors
            and plain values.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}: check the path')
    if path.suffix == '.safetensors':
        try:
            return _load_safetensors(path)
        except SafetensorError as error:
            raise ValueError(
                f'{path} is no whole .safetensors file ({error}): copy or fetch it '
                'again, or give another one'
            ) from error
    with path.open('rb') as file:
        return _load_pickle(file, map_location, str(path))


def _load_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, 'pt') as file:
        metadata = file.metadata() or {}
    weights = load_file(path)
    if METADATA not in metadata:
        return weights
    try:
        return {'state_dict': weights, 'meta': json.loads(metadata[METADATA])}
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path}: its metadata {METADATA!r} is no JSON ({error}): publish it again '
            'with tools/publish_model.py'
        ) from error


def _load_pickle(file: io.IOBase, map_location: MapLocation, source: str) -> dict:
    start = file.read(16)
    file.seek(0)
    if not start.startswith((b'PK', b'\x80')):  # a zip archive, a pickle before 1.6
        what = 'is a web page' if start.lstrip()[:1] == b'<' else 'is no checkpoint'
        raise ValueError(
            f'{source} {what}, it begins with {start!r}: give another file, or fetch '
            'this one again if it was downloaded'
        )
    try:
        with torch.serialization.safe_globals(safe_globals()):
            checkpoint = torch.load(
                file, map_location=map_location or 'cpu', weights_only=True
            )
    except UnpicklingError as error:
        # Only the name: torch's own advice here is to switch the safety off.
        name = re.search(r'GLOBAL (\S+)', str(error))
        what = f'{name[1]}, which is' if name else 'something'
        raise ValueError(
            f'{source} asks for {what} no tensor and no plain value. Nothing of it '
            'was executed. If you trust its source, convert it where it was made: '
            "torch.save({'state_dict': model.state_dict()}, path)"
        ) from error
    except (
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        if 'map_location' in str(error):  # the device is missing, the file is fine
            raise
        raise ValueError(
            f'{source} cannot be read, it seems truncated: copy or fetch it again '
            f'({error})'
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'{source} holds a {type(checkpoint).__name__}, not a dict of weights'
        )
    return checkpoint


# --- MMEngine's loaders, by the scheme of the path; their names appear in its log


def load_from_local(filename: str, map_location: MapLocation = None) -> dict:
    """Load a local file: MMEngine's Runner, ``init_cfg`` and hub all end here."""
    checkpoint = load_checkpoint_file(filename, map_location)
    set_aside(checkpoint)
    return checkpoint


def load_from_http(filename: str, map_location: MapLocation = None) -> dict:
    """Load from the web, through our cache."""
    return load_from_local(download(filename), map_location)


def load_from_zoo(filename: str, map_location: MapLocation = None) -> dict:
    """Load ``zoo://NAME``, a model of the zoo."""
    return load_from_local(download(filename), map_location)


def download(address: str) -> Path:
    """Where a file of `REMOTE` is on this machine; it is fetched if need be.

    Raises:
        FileNotFoundError: It cannot be had.
        ValueError: It is not the one it should be, or the zoo has no such model.
    """
    scheme, _, name = address.partition('://')
    if scheme == 'zoo':
        from .registry import fetch_entry  # reads metafiles, which few need

        return fetch_entry(name)
    return fetch_url(address)


def load_from_openmmlab(filename: str, map_location: MapLocation = None) -> dict:
    """Load by a name of MMEngine's list of released models."""
    name = filename.partition('://')[2]
    name = get_deprecated_model_names().get(name, name)
    return CheckpointLoader.load_checkpoint(get_external_models()[name], map_location)


def load_from_torchvision(filename: str, map_location: MapLocation = None) -> dict:
    """Load by a name of torchvision's list of released models."""
    name = filename.partition('://')[2]
    return load_from_http(get_torchvision_models()[name], map_location)


def load_from_mmcls(filename: str, map_location: MapLocation = None) -> dict:
    """Load the backbone of a classifier by MMClassification's name for it."""
    name = filename.partition('://')[2]
    weights = load_from_http(get_mmcls_models()[name], map_location)['state_dict']
    prefix = 'backbone.'
    return {
        'state_dict': {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
    }


def load_from_ceph(filename: str, map_location: MapLocation = None) -> dict:
    """Load from an object store."""
    content = get(filename, backend_args=dict(backend='petrel'))
    checkpoint = _load_pickle(io.BytesIO(content), map_location, filename)
    set_aside(checkpoint)
    return checkpoint


def load_from_pavi(filename: str, map_location: MapLocation = None) -> dict:
    """Refuse: MMEngine's loader of this store may unpickle without safety."""
    raise ValueError(f'{filename}: download it and give the path of the file')


def register_loaders() -> None:
    """Make every checkpoint that MMEngine loads a safe one.

    OneDL's MMEngine falls back to full unpickling, silently; OpenMMLab's fails on its
    own checkpoints; and both download through `torch.hub`, which unpickles anything.
    Nor does any loader hand over what MMEngine would run (see `checkpoint_state`): an
    inferencer needs its config from you.
    """
    for prefixes, loader in (
        ('', load_from_local),
        (('http://', 'https://'), load_from_http),
        ('zoo://', load_from_zoo),
        (('open-mmlab://', 'openmmlab://'), load_from_openmmlab),
        (('modelzoo://', 'torchvision://'), load_from_torchvision),
        ('mmcls://', load_from_mmcls),
        ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_ceph),
        ('pavi://', load_from_pavi),
    ):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


# --- strict loading


def state_dict_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint, without the ``module.`` of parallel training."""
    weights = checkpoint.get('state_dict', checkpoint)
    return {key.removeprefix('module.'): value for key, value in weights.items()}


def check_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], source: str
) -> None:
    """Check that ``state_dict`` is one of ``model``, before anything is loaded.

    Args:
        model: The model to load into; it is left alone.
        state_dict: The weights.
        source: Where they are from, for the message.

    Raises:
        ValueError: Names the keys that are missing, unexpected, and those of another
            shape with both shapes.
    """
    if differences := compare_weights(model.state_dict(), state_dict):
        raise ValueError(
            f'{source} is a checkpoint of another model; nothing was loaded.\n'
            f'{differences}\nUse the config that it was trained with.'
        )


def compare_weights(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], most: int = 10
) -> str:
    """Where two sets of weights differ in keys and shapes, in words; '' if nowhere.

    Args:
        expected: Of the model.
        found: Of the checkpoint.
        most: Keys to name of each kind of difference.
    """
    both = expected.keys() & found.keys()
    differences = {
        'missing': [key for key in expected if key not in both],
        'unexpected': [key for key in found if key not in both],
        'of another shape': [
            f'{key}: {tuple(found[key].shape)} in the checkpoint, '
            f'{tuple(value.shape)} in the model'
            for key, value in expected.items()
            if key in both and found[key].shape != value.shape
        ],
    }
    lines = []
    for name, keys in differences.items():
        if keys:
            lines.append(f'{len(keys)} {name}:')
            lines.extend(f'    {key}' for key in keys[:most])
        if len(keys) > most:
            lines.append(f'    ... and {len(keys) - most} more')
    return '\n'.join(lines)


def load_strict(model: nn.Module, path: str | Path) -> None:
    """Load all weights of a file into ``model``, or none.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is no checkpoint, or one of another model.
    """
    weights = state_dict_of(load_checkpoint_file(path))
    check_state_dict(model, weights, str(path))
    model.load_state_dict(weights)
