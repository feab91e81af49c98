"""A backbone out of a checkpoint: for timm, Hugging Face, MMPretrain, or as it is.

Letters: P prefix tokens ([CLS] or none), N patches, D embedding width.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..loading import load_checkpoint_file
from ..positions import FIELD
from ..pretrained import convert_weights, local_file, select_backbone
from ..saving import save_safetensors
from ..trained_config import backbone_options, image_options
from . import huggingface, timm_vit
from .family import PATCHES, REGISTERS


@dataclass
class Backbone:
    """A plain ViT, and what it takes to build it."""

    cfg: dict[str, Any]
    """Arguments of `PositionViT`, all that matter to its features."""
    weights: dict[str, Tensor]
    """In its names."""
    notes: list[str] = field(default_factory=list)
    """What was done to get them, and to export them."""
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    """Options of MMPretrain's, where the checkpoint has them."""
    pipeline: list[dict] = field(default_factory=list)
    """How images are evaluated, likewise."""

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, cols = self.cfg['img_size']
        return rows // self.cfg['patch_size'], cols // self.cfg['patch_size']

    def need(self, target: str, **values: Any) -> None:
        """Raise a ValueError unless ``cfg`` has these values."""
        for key, value in values.items():
            if self.cfg[key] != value:
                raise ValueError(
                    f'{target} has no ViT with {key}={self.cfg[key]!r}, its features '
                    'would be others; --to safetensors keeps all of the backbone'
                )

    def add_positions(self, target: str) -> None:
        """Give a ViT without positions zeros, where the format cannot do without.

        Raises:
            ValueError: If positions are relative, which are no ``pos_embed``.
        """
        if self.cfg['positions'] == 'relative':
            self.need(target, positions='learned')
        if self.cfg['positions'] == 'none':
            width = self.cfg['arch']['embed_dims']
            number = math.prod(self.grid_size) + self.cfg['with_cls_token']
            self.weights['pos_embed'] = torch.zeros(1, number, width)  # (1, P + N, D)
            self.cfg['positions'] = 'learned'
            self.notes.append('no positions: pos_embed is zeros')


def read_backbone(
    source: str,
    prefix: str | None = None,
    img_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
    source_grid: tuple[int, int] | None = None,
) -> Backbone:
    """The backbone of a checkpoint of any known format, as a plain ViT.

    A field is sampled on the grid of ``img_size``, an embedding resampled to it.

    Args:
        source: File or address.
        prefix: Of the backbone, if not the one that is evaluated.
        img_size: Rows and columns of pixels; by default as in the pre-training.
        num_heads: Of attention, which no weight tells; by default as in the config in
            the checkpoint, or in the known ViT of this size.
        source_grid: Rows and columns of its position embedding, where it does not say.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no checkpoint of a ViT, or does not say what was left open.
    """
    from mmpospretrain.models import PositionViT  # models import the zoo

    content = load_checkpoint_file(local_file(source))
    weights, _ = select_backbone(content, [PATCHES], source, prefix, source_grid)
    said = backbone_options(content)
    if source_grid and not img_size:
        patch = weights[PATCHES].shape[-1]
        img_size = (source_grid[0] * patch, source_grid[1] * patch)
    cfg = describe(weights, said, source, img_size, num_heads)
    with torch.device('meta'):  # for names, shapes and the grid
        module = PositionViT(**cfg)
    weights, notes = convert_weights(content, module, source, prefix, source_grid)
    if not (img_size or said.get('img_size')) and cfg['positions'] == 'learned':
        rows, cols = module.grid_size
        notes.append(f'{rows * cols} positions taken for {rows}x{cols}')
    return Backbone(cfg, weights, notes, *image_options(content))


def describe(
    weights: Mapping[str, Tensor],
    cfg: Mapping[str, Any],
    source: str,
    img_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
) -> dict[str, Any]:
    """Arguments of `PositionViT` for these weights, as `read_backbone`.

    Args:
        weights: In MMPretrain's names.
        cfg: What a config says of the backbone; asked for what weights do not tell.
        source: For errors.
        img_size: As of `read_backbone`.
        num_heads: As of `read_backbone`.
    """
    width, channels, patch, _ = weights[PATCHES].shape
    layers = {m[1] for key in weights if (m := re.match(r'layers\.(\d+)\.', key))}
    hidden = weights.get('layers.0.ffn.layers.0.0.weight')
    if hidden is None:
        raise ValueError(f'{source} has no plain MLP in its layers: it stays as it is')
    arch = dict(
        embed_dims=width, num_layers=len(layers), feedforward_channels=len(hidden)
    )
    arch['num_heads'] = num_heads or _num_heads(arch, cfg.get('arch'), source)
    if width % arch['num_heads']:
        raise ValueError(f'{arch["num_heads"]} heads do not divide {width} channels')
    relative = any('rel_pos_bias' in key for key in weights)
    learned = 'pos_embed' in weights or FIELD in weights
    size = img_size or cfg.get('img_size')
    if size is None and 'pos_embed' in weights and FIELD not in weights:
        number = weights['pos_embed'].shape[1] - ('cls_token' in weights)
        if math.isqrt(number) ** 2 == number:
            size = math.isqrt(number) * patch
    if size is None:
        raise ValueError(f'{source} does not say for which images: give --img-size')
    return dict(
        arch=arch,
        img_size=(size, size) if isinstance(size, int) else tuple(size),
        patch_size=patch,
        in_channels=channels,
        positions='learned' if learned else 'relative' if relative else 'none',
        with_cls_token='cls_token' in weights,
        num_registers=weights[REGISTERS].shape[1] if REGISTERS in weights else 0,
        layer_scale_init_value=1e-5 * ('layers.0.attn.gamma1.weight' in weights),
        qkv_bias='layers.0.attn.qkv.bias' in weights,
        pre_norm='pre_norm.weight' in weights,
        final_norm='ln1.weight' in weights,
    )


def _num_heads(arch: Mapping[str, int], named: Any, source: str) -> int:
    """Of a config's ``arch``, or of the one ViT that is known to have such sizes."""
    from mmpospretrain.models import PositionViT

    if isinstance(named, Mapping) and 'num_heads' in named:
        return named['num_heads']
    known = {
        name: zoo['num_heads']
        for name, zoo in PositionViT.arch_zoo.items()
        if arch.items() <= zoo.items()
    }
    if named not in known and len(set(known.values())) != 1:
        raise ValueError(f'{source} does not say how many heads: give --num-heads')
    return known.get(named) or next(iter(known.values()))


def export(source: str, to: str, out: Path, **options: Any) -> list[str]:
    """Write the backbone of a checkpoint in another format.

    Args:
        source: File or address.
        to: A key of `WRITERS`.
        out: File, or folder for ``timm`` and ``hf``, which need a config beside it.
        **options: As of `read_backbone`.

    Returns:
        What was done.

    Raises:
        ValueError: If there is something at ``out``, the format has no such ViT, or as
            `read_backbone`.
    """
    if out.exists():
        raise ValueError(f'there is something at {out}: give another place with --out')
    backbone = read_backbone(source, **options)
    backbone.notes.insert(0, f'exported from {Path(source).name} to {to}')
    WRITERS[to](backbone, out)
    return backbone.notes


def write_timm(backbone: Backbone, out: Path) -> None:
    """A folder for ``timm.create_model('local-dir:FOLDER', pretrained=True)``."""
    backbone.add_positions('timm')
    config = timm_vit.model_config(backbone.cfg)
    _write_folder(out, config, timm_vit.to_timm(backbone.weights), backbone)


def write_hugging_face(backbone: Backbone, out: Path) -> None:
    """A folder for ``AutoModel.from_pretrained(FOLDER)`` of transformers."""
    backbone.add_positions('Hugging Face')
    backbone.need('Hugging Face', pre_norm=False, final_norm=True)
    config = huggingface.model_config(backbone.cfg)
    if not config['model_type'].startswith('dinov2'):
        backbone.need('Hugging Face (without LayerScale)', num_registers=0)
    else:  # resamples positions, from squares only
        backbone.need('Hugging Face', with_cls_token=True)
        side = backbone.cfg['img_size'][0]
        backbone.need('Hugging Face (DINOv2)', img_size=(side, side))
    weights = huggingface.to_hugging_face(backbone.weights, config['model_type'])
    processor = huggingface.processor_config(
        backbone.cfg['img_size'], backbone.preprocessor, backbone.pipeline
    )
    if not backbone.preprocessor.get('mean'):
        backbone.notes.append("mean and std of ImageNet, as the checkpoint doesn't say")
    _write_folder(out, config, weights, backbone)
    text = json.dumps(processor, indent=2) + '\n'
    (out / 'preprocessor_config.json').write_text(text)


def write_safetensors(backbone: Backbone, out: Path) -> None:
    """One file with the names of the suite, its config in the metadata."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _save(backbone.weights, out, backbone)


def write_mmpretrain(backbone: Backbone, out: Path) -> None:
    """A ``.pth`` for ``VisionTransformer``, with prefix ``backbone.``."""
    backbone.add_positions('MMPretrain')
    backbone.need('MMPretrain', num_registers=0)
    out.parent.mkdir(parents=True, exist_ok=True)
    ours = ('positions', 'num_registers')
    cfg = {k: v for k, v in backbone.cfg.items() if k not in ours}
    cfg = dict(type='VisionTransformer', out_type='raw', **cfg)
    state_dict = {f'backbone.{key}': value for key, value in backbone.weights.items()}
    meta = dict(backbone=cfg, notes='; '.join(backbone.notes))
    torch.save(dict(state_dict=state_dict, meta=meta), out)


WRITERS = dict(
    timm=write_timm,
    hf=write_hugging_face,
    safetensors=write_safetensors,
    mmpretrain=write_mmpretrain,
)


def _write_folder(
    out: Path, config: dict, weights: Mapping[str, Tensor], backbone: Backbone
) -> None:
    out.mkdir(parents=True)
    (out / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
    _save(weights, out / 'model.safetensors', backbone)


def _save(weights: Mapping[str, Tensor], path: Path, backbone: Backbone) -> None:
    metadata = dict(
        format='pt',  # transformers asks for it
        backbone=json.dumps(backbone.cfg),
        notes='; '.join(backbone.notes),
    )
    save_safetensors(weights, path, metadata)
