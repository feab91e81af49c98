"""The ViTs of Hugging Face: ViT and I-JEPA, which share their names, and DINOv2's two.

Names as in files; the modules of transformers 5 have others, which it translates.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .family import Family, translate

# From their names to MMPretrain's.
COMMON = {
    'embeddings.cls_token': 'cls_token',
    'embeddings.position_embeddings': 'pos_embed',
    'embeddings.patch_embeddings.projection': 'patch_embed.projection',
    'encoder.layer.{}.attention.attention.qkv': 'layers.{}.attn.qkv',  # see join_qkv
    'encoder.layer.{}.attention.output.dense': 'layers.{}.attn.proj',
    'layernorm': 'ln1',
}
VIT = {
    **COMMON,
    'encoder.layer.{}.layernorm_before': 'layers.{}.ln1',
    'encoder.layer.{}.layernorm_after': 'layers.{}.ln2',
    'encoder.layer.{}.intermediate.dense': 'layers.{}.ffn.layers.0.0',
    'encoder.layer.{}.output.dense': 'layers.{}.ffn.layers.1',
}
DINOV2 = {
    **COMMON,
    'embeddings.register_tokens': 'register_tokens',
    'encoder.layer.{}.norm1': 'layers.{}.ln1',
    'encoder.layer.{}.layer_scale1.lambda1': 'layers.{}.attn.gamma1.weight',
    'encoder.layer.{}.norm2': 'layers.{}.ln2',
    'encoder.layer.{}.mlp.fc1': 'layers.{}.ffn.layers.0.0',
    'encoder.layer.{}.mlp.fc2': 'layers.{}.ffn.layers.1',
    'encoder.layer.{}.mlp.weights_in': 'layers.{}.ffn.w12',
    'encoder.layer.{}.mlp.weights_out': 'layers.{}.ffn.w3',
    'encoder.layer.{}.layer_scale2.lambda1': 'layers.{}.ffn.gamma2.weight',
}
# Numbers of Pillow's filters, which image processors have for OpenCV's names.
FILTERS = dict(nearest=0, lanczos=1, bilinear=2, bicubic=3, area=4)
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])  # mean, std
QKV = ('query', 'key', 'value')


def join_qkv(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values in one: three of (D, D) become (3D, D)."""
    joined = {}
    for key, value in weights.items():
        whole, times = re.subn(r'attention\.(query|key|value)\.', 'attention.qkv.', key)
        parts = [re.sub(r'(?<=attention\.)qkv(?=\.)', part, whole) for part in QKV]
        if times and all(part in weights for part in parts):
            joined[whole] = torch.cat([weights[part] for part in parts])
        else:
            joined[key] = value
    return joined


SURPLUS = r'pooler\.|classifier\.|decoder\.|embeddings\.mask_token$'

DINOV2_FAMILY = Family(
    name='Hugging Face DINOv2',
    mark=r'\.layer_scale1\.lambda1$',
    names=DINOV2,
    surplus=SURPLUS,
    adjust=join_qkv,
)
VIT_FAMILY = Family(
    name='Hugging Face ViT',
    mark=r'\.layernorm_before\.weight$',
    names=VIT,
    surplus=SURPLUS,
    adjust=join_qkv,
)


def to_hugging_face(
    weights: Mapping[str, Tensor], model_type: str
) -> dict[str, Tensor]:
    """A backbone in MMPretrain's names with those of ``model_type``."""
    table = DINOV2 if model_type.startswith('dinov2') else VIT
    names = {ours: theirs for theirs, ours in table.items()}
    named = {}
    for key, value in weights.items():
        name = translate(key, names)
        if '.qkv.' in name:  # the way back of `join_qkv`
            for part, tensor in zip(QKV, value.chunk(3), strict=True):
                named[name.replace('.qkv.', f'.{part}.')] = tensor
        else:
            named[name] = value
    if model_type == 'dinov2_with_registers':  # always has one, for pre-training
        token = named['embeddings.cls_token']
        named['embeddings.mask_token'] = torch.zeros_like(token[0])  # (1, D)
    return named


def model_config(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` that transformers reads, for arguments of `PositionViT`.

    With LayerScale it is that of a DINOv2, with or without registers; without [CLS], of
    an I-JEPA.
    """
    arch, size = cfg['arch'], cfg['img_size']
    width, hidden = arch['embed_dims'], arch['feedforward_channels']
    config = dict(
        hidden_size=width,
        num_hidden_layers=arch['num_layers'],
        num_attention_heads=arch['num_heads'],
        hidden_act='gelu',
        layer_norm_eps=1e-6,
        image_size=size[0] if size[0] == size[1] else list(size),
        patch_size=cfg['patch_size'],
        num_channels=cfg['in_channels'],
        qkv_bias=cfg['qkv_bias'],
    )
    if cfg['layer_scale_init_value']:
        ratio = hidden // width if hidden % width == 0 else hidden / width
        config['mlp_ratio'] = ratio
        if cfg['num_registers']:
            kind, name = 'dinov2_with_registers', 'Dinov2WithRegistersModel'
            config['num_register_tokens'] = cfg['num_registers']
        else:
            kind, name = 'dinov2', 'Dinov2Model'
            config['use_mask_token'] = False
        return dict(model_type=kind, architectures=[name], **config)
    kind, name = ('vit', 'ViT') if cfg['with_cls_token'] else ('ijepa', 'IJepa')
    return dict(
        model_type=kind,
        architectures=[f'{name}Model'],
        intermediate_size=hidden,
        **config,
    )


def processor_config(
    img_size: tuple[int, int],
    preprocessor: Mapping[str, Any],
    pipeline: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The ``preprocessor_config.json`` that transformers reads.

    Args:
        img_size: Rows and columns of pixels.
        preprocessor: Options of MMPretrain's, of which ``mean`` and ``std`` are taken;
            ImageNet's without.
        pipeline: How images are evaluated. A crop after a resized edge is kept, its
            share of the image too; without, images are resized to ``img_size``.
    """
    rows, cols = img_size
    steps = {str(step.get('type')).rpartition('.')[2]: step for step in pipeline}
    edge, crop = steps.get('ResizeEdge'), steps.get('CenterCrop')
    resize = edge or steps.get('Resize') or {'interpolation': 'bicubic'}
    config: dict[str, Any] = dict(
        image_processor_type='ViTImageProcessor',
        do_resize=True,
        size=dict(height=rows, width=cols),
    )
    if edge and crop:
        side = crop['crop_size']
        side = side if isinstance(side, int) else min(side)
        config.update(
            image_processor_type='BitImageProcessor',
            size=dict(shortest_edge=round(edge['scale'] * min(img_size) / side)),
            do_center_crop=True,
            crop_size=dict(height=rows, width=cols),
        )
    mean, std = (
        preprocessor.get(name) or default
        for name, default in zip(('mean', 'std'), IMAGENET, strict=True)
    )
    return dict(
        **config,
        resample=FILTERS.get(resize.get('interpolation', 'bilinear'), 3),
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[value / 255 for value in mean],
        image_std=[value / 255 for value in std],
        do_convert_rgb=True,
    )
