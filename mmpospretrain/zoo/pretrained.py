"""From any pre-training checkpoint to the weights of a backbone: all of them, or none.

As a function, `load_backbone`, and as an ``init_cfg`` in the configs of MMPretrain,
MMDetection and MMSegmentation::

    init_cfg=dict(type='mmpospretrain.PretrainedBackbone', checkpoint='epoch_200.pth')

MMEngine's own ``Pretrained`` takes what fits and goes on without the rest, so that a
wrong prefix trains from scratch and nobody notices. Here, whatever the backbone expects
has to arrive, and the log says in one line what did.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pooch
from mmengine import registry as root
from mmengine.logging import print_log
from mmengine.model import BaseModule, PretrainedInit, update_init_info
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmpospretrain.registry import WEIGHT_INITIALIZERS, builds

from .formats import PATCHES, REGISTERS, flat_weights, recognise
from .formats.dinov2 import fit_patches
from .loading import REMOTE, compare_weights, download, load_checkpoint_file
from .positions import fit_positions

# What a pre-trained backbone holds and a backbone for other work may do without.
DROPPED = {
    'cls_token': 'no [CLS] here',
    'mask_token': 'for pre-training only',
    'pos_embed': 'no position embedding here',
    'field.': 'no position embedding here',
    'ln1.': 'no final norm here',
    'ln2.': 'no norm after pooling here',
}
READ_BY = ('prefix', 'source_grid', 'map_location')  # options of `PretrainedBackbone`
# Of several backbones in a checkpoint the first of these. Of a student and a teacher it
# is the teacher, as I-JEPA, StoP and DINOv2 evaluate it.
EVALUATED = ('target_encoder', 'backbone')
# What a backbone may have beyond its pre-training: the norm after pooling, relative
# positions, and after one without any, as MP3's, position embeddings.
FRESH = re.compile(r'ln2\.|pos_embed$|layers\.\d+\.attn\.rel_pos_')


@WEIGHT_INITIALIZERS.register_module()
class PretrainedBackbone:
    """``init_cfg`` of a backbone whose weights come from a pre-training.

    Args:
        checkpoint: File, URL, ``zoo://NAME``, or another address that MMEngine knows.
        prefix: What the keys of the backbone begin with in the checkpoint, such as
            ``'backbone.'``; found by itself unless given.
        source_grid: ``(rows, cols)`` of the checkpoint's position embedding; only for
            those that do not say, and are not square or may be something else.
        map_location: Where tensors go at first; `torch.load` has the choices.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        prefix: str | None = None,
        source_grid: tuple[int, int] | None = None,
        map_location: str = 'cpu',
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.source_grid = source_grid
        self.map_location = map_location

    def __call__(self, module: nn.Module) -> None:
        """Load, and keep MMEngine from initialising what was loaded once more.

        Raises:
            FileNotFoundError: No such file.
            ValueError: No checkpoint was given, or it does not fit.
        """
        if not self.checkpoint:
            raise ValueError(
                'this config fine-tunes a pre-trained backbone, and was given none: '
                'tools/train.py --pretrained PATH, or --pretrained none to train from '
                'scratch; in a config, init_cfg.checkpoint or init_cfg=None'
            )
        cfgs = getattr(module, 'init_cfg', None)
        if isinstance(cfgs, list) and not _is_pretrained(cfgs[-1]):
            raise ValueError(
                f'{cfgs[-1]} would initialise what PretrainedBackbone has loaded: '
                'put PretrainedBackbone last in init_cfg'
            )
        load_backbone(
            module, self.checkpoint, self.prefix, self.source_grid, self.map_location
        )
        for part in module.modules():
            if isinstance(part, BaseModule):
                part.is_init = True
        # MMPretrain's ViT draws a new position embedding unless it reads this.
        module.init_cfg = dict(type='Pretrained', checkpoint=self.checkpoint)
        if hasattr(module, '_params_init_info'):
            info = f'PretrainedBackbone: loaded from {self.checkpoint}'
            update_init_info(module, init_info=info)


def evaluated_part(model: nn.Module) -> str | None:
    """The name of a model's backbone: the teacher's, if it has one; None if none."""
    return next((part for part in EVALUATED if hasattr(model, part)), None)


def load_backbone(
    module: nn.Module,
    checkpoint: str | Path,
    prefix: str | None = None,
    source_grid: tuple[int, int] | None = None,
    map_location: str = 'cpu',
) -> str:
    """Load a backbone from a pre-training checkpoint, and log how in one line.

    Args:
        module: The backbone. It has a ``grid_size`` or a ``patch_resolution``
            (MMPretrain) if it has a ``pos_embed``.
        checkpoint: File, URL, ``zoo://NAME``, or another address that MMEngine knows.
        prefix: As of `PretrainedBackbone`.
        source_grid: As of `PretrainedBackbone`.
        map_location: As of `PretrainedBackbone`.

    Returns:
        The line: file, start of its SHA-256, keys loaded, skipped and why, resampled
        from which grid to which, left fresh.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no checkpoint, or not one of this backbone; lists the keys
            that are missing, unexpected, and of another shape. The module is as before.
    """
    content, name = _read(str(checkpoint), map_location)
    weights, notes = convert_weights(content, module, name, prefix, source_grid)
    module.load_state_dict(weights, strict=False)  # all but what may be fresh is there
    line = f'{name}: {"; ".join([f"{len(weights)} keys loaded", *notes])}'
    print_log(line, logger='current')
    return line


def local_file(source: str) -> Path:
    """Where a checkpoint is on this machine; it is downloaded if need be.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if source.startswith(REMOTE):
        return download(source)
    path = Path(source).expanduser()
    if not path.is_file():
        hint = ', it is a folder: give a file in it' if path.is_dir() else ''
        raise FileNotFoundError(f'there is no checkpoint {source!r}{hint}')
    return path


def _read(source: str, map_location: str) -> tuple[dict[str, Any], str]:
    """A checkpoint, and its name for the log, with the hash where there is a file."""
    if '://' in source and not source.startswith(REMOTE):
        return CheckpointLoader.load_checkpoint(source, map_location), source
    path = local_file(source)
    content = load_checkpoint_file(path, map_location)
    return content, f'{source} (sha256 {pooch.file_hash(str(path))[:8]})'


def prefix_tokens(checkpoint: str | Path) -> dict[str, bool | int]:
    """Options of `PositionViT` for the tokens beside patches that a checkpoint holds.

    Returns:
        ``with_cls_token`` and ``num_registers``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no checkpoint.
    """
    content, _ = _read(str(checkpoint), 'cpu')
    names = {key.rpartition('.')[2]: w for key, w in flat_weights(content).items()}
    registers = names.get('register_tokens', names.get('reg_token'))
    return dict(
        with_cls_token='cls_token' in names,
        num_registers=0 if registers is None else registers.shape[-2],
    )


def convert_weights(
    checkpoint: Mapping[str, Any],
    module: nn.Module,
    name: str,
    prefix: str | None = None,
    source_grid: tuple[int, int] | None = None,
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights for ``module``, which is left alone, and what was done to get them.

    Raises:
        ValueError: As `load_backbone`.
    """
    expected = module.state_dict()
    grid = source_grid or getattr(module, 'grid_size', None)
    inside, notes = select_backbone(checkpoint, expected, name, prefix, grid)
    notes += fit_patches(inside, expected)
    family = recognise(flat_weights(checkpoint)) if PATCHES in expected else None
    inside, position_notes = fit_positions(
        inside, module, checkpoint, source_grid, name, bool(family and family.square)
    )
    for key, reason in DROPPED.items():
        if surplus := [k for k in inside if k.startswith(key) and k not in expected]:
            notes.append(f'{key.rstrip(".")} skipped ({reason})')
        for k in surplus:
            del inside[k]
    notes += position_notes
    fresh = [key for key in expected if key not in inside and FRESH.match(key)]
    for what, wanted in (('positions start fresh', True), ('fresh', False)):
        kinds = [
            re.sub(r'layers\.\d+', 'layers.*', key)
            for key in fresh
            if ('pos_' in key) == wanted
        ]
        if kinds:
            notes.append(f'{what}: {", ".join(dict.fromkeys(kinds))}')
    arriving = {key: value for key, value in expected.items() if key not in fresh}
    if differences := compare_weights(arriving, inside):
        advice = 'the arch, patch_size and options that it was pre-trained with'
        if 'cls_token' in arriving.keys() - inside.keys():
            advice = 'with_cls_token=False, as in the checkpoint'
        elif REGISTERS in arriving.keys() ^ inside.keys():
            number = inside[REGISTERS].shape[1] if REGISTERS in inside else 0
            advice = (
                f'num_registers={number}, as in the checkpoint; PositionViT has that, '
                "ViTDet and MMPretrain's VisionTransformer have not"
            )
        elif any('.gamma1.' in key for key in inside.keys() - expected.keys()):
            advice = "layer_scale_init_value above 0, for the checkpoint's LayerScale"
        elif 'ln1.weight' in arriving.keys() - inside.keys():
            advice = 'final_norm=False, as in the checkpoint'
        raise ValueError(
            f'{name} does not fit this {type(module).__name__}; nothing was loaded.\n'
            f'{differences}\nGive the backbone {advice}.'
        )
    return inside, notes


def select_backbone(
    checkpoint: Mapping[str, Any],
    expected: Collection[str],
    name: str,
    prefix: str | None = None,
    grid: tuple[int, int] | None = None,
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of one backbone in a checkpoint, and what was done to get them.

    Args:
        checkpoint: Of the suite, or of a format of `zoo.formats`, which is recognised.
        expected: Some keys of the backbone, without prefix.
        name: Of the checkpoint, for errors.
        prefix: As of `PretrainedBackbone`.
        grid: As of `Family.to_backbone`.

    Raises:
        ValueError: If there is none, or not with this prefix; if several might be
            meant, or a known format has keys left over.
    """
    weights = flat_weights(checkpoint)
    family = recognise(weights)
    if family and PATCHES in expected:
        return family.to_backbone(weights, name, prefix, grid)
    notes = []
    if prefix is None:
        prefix = _find_prefix(weights, expected, name)
    elif prefix and not prefix.endswith('.'):
        prefix += '.'  # MMEngine's way to write it
    inside = {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix)
    }
    if not inside:
        raise ValueError(
            f'no key of {name} begins with {prefix!r}; they begin with '
            f'{_beginnings(weights)}. Leave prefix out, and it is found'
        )
    if skipped := len(weights) - len(inside):
        notes.append(f'{skipped} outside {prefix!r} skipped')
    return inside, notes


def _find_prefix(
    weights: Mapping[str, Tensor], expected: Collection[str], name: str
) -> str:
    """What stands before most of the expected keys in a checkpoint."""
    hits = Counter(
        found.removesuffix(key)
        for key in expected
        for found in weights
        if found == key or found.endswith(f'.{key}')
    )
    most = max(hits.values(), default=0)
    # One of ours that lacks some keys is damaged, and no reason to take another.
    preferred = [f'{part}.' for part in EVALUATED if hits[f'{part}.'] > most / 2]
    best = preferred or [prefix for prefix, count in hits.items() if count == most]
    if not best:
        raise ValueError(
            f'{name} holds no weights of such a backbone; nothing was loaded. Its keys '
            f'begin with {_beginnings(weights)}'
        )
    if len(best) > 1 and not preferred:
        raise ValueError(
            f'{name} holds several backbones: choose with prefix, one of {best}'
        )
    return best[0]


def _beginnings(weights: Mapping[str, Tensor]) -> str:
    counts = Counter(key.partition('.')[0] for key in weights)
    return ', '.join(f'{name} ({n})' for name, n in counts.most_common(8)) or 'nothing'


def strict_init_cfg(init_cfg: dict | list[dict] | None) -> dict | list[dict] | None:
    """An ``init_cfg`` whose ``Pretrained`` is `PretrainedBackbone`, and comes last."""
    if not init_cfg:
        return init_cfg
    cfgs = [
        dict(cfg) for cfg in (init_cfg if isinstance(init_cfg, list) else [init_cfg])
    ]
    for cfg in cfgs:
        if _is_pretrained(cfg):
            cfg['type'] = 'mmpospretrain.PretrainedBackbone'
    cfgs.sort(key=_is_pretrained)
    return cfgs if len(cfgs) > 1 else cfgs[0]


def without_pretrained(module: Mapping[str, Any]) -> dict[str, Any]:
    """A config of a module without the ``init_cfg`` that load weights."""
    if not (cfgs := module.get('init_cfg')):
        return {**module}
    cfgs = cfgs if isinstance(cfgs, list) else [cfgs]
    fresh = [cfg for cfg in cfgs if not _is_pretrained(cfg)]
    return {**module, 'init_cfg': fresh or None}


def pretrained_options(module: Mapping[str, Any]) -> dict[str, Any]:
    """How the config of a module wants a checkpoint to be read.

    Returns:
        Of ``prefix``, ``source_grid`` and ``map_location`` those that its ``init_cfg``
        gives.
    """
    cfgs = module.get('init_cfg') or []
    for cfg in cfgs if isinstance(cfgs, list) else [cfgs]:
        if 'type' not in cfg or _is_pretrained(cfg):
            return {key: cfg[key] for key in READ_BY if key in cfg}
    return {}


def _is_pretrained(cfg: Mapping[str, Any]) -> bool:
    """Whether an ``init_cfg`` loads weights."""
    return builds(cfg, (PretrainedInit, PretrainedBackbone), root.WEIGHT_INITIALIZERS)
