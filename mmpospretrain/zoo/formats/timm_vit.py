"""The ViT of timm, whose names most others have taken over.

So did DeiT, the fine-tuned models of MAE and DropPos, and the backbones that DINO and
iBOT publish alone.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .family import Family, translate

# From timm's names to MMPretrain's.
TIMM = {
    'cls_token': 'cls_token',
    'reg_token': 'register_tokens',
    'pos_embed': 'pos_embed',
    'patch_embed.proj': 'patch_embed.projection',
    'norm_pre': 'pre_norm',
    'blocks.{}.norm1': 'layers.{}.ln1',
    'blocks.{}.attn.qkv': 'layers.{}.attn.qkv',
    'blocks.{}.attn.proj': 'layers.{}.attn.proj',
    'blocks.{}.ls1.gamma': 'layers.{}.attn.gamma1.weight',
    'blocks.{}.norm2': 'layers.{}.ln2',
    'blocks.{}.mlp.fc1': 'layers.{}.ffn.layers.0.0',
    'blocks.{}.mlp.fc2': 'layers.{}.ffn.layers.1',
    'blocks.{}.mlp.w12': 'layers.{}.ffn.w12',
    'blocks.{}.mlp.w3': 'layers.{}.ffn.w3',
    'blocks.{}.ls2.gamma': 'layers.{}.ffn.gamma2.weight',
    'norm': 'ln1',
    'fc_norm': 'ln2',  # of the mean of all patches
}


def split_gates(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the gated MLP of timm (SwiGLU) the names of DINOv2.

    Both hold gate and values in one matrix; timm calls it as that of a plain MLP, which
    is as wide as what comes after.
    """
    first, second = 'blocks.0.mlp.fc1.weight', 'blocks.0.mlp.fc2.weight'
    if first not in weights or len(weights[first]) == weights[second].shape[1]:
        return weights
    return {
        key.replace('.mlp.fc1.', '.mlp.w12.').replace('.mlp.fc2.', '.mlp.w3.'): value
        for key, value in weights.items()
    }


FAMILY = Family(
    name='timm ViT',
    mark=r'(^|\.)blocks\.0\.attn\.qkv\.weight$',
    names=TIMM,
    registers_have_positions=True,
    surplus=r'(head|pre_logits)\.',
    adjust=split_gates,
)


def to_timm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone in the names of `PositionViT` with those of timm."""
    names = {ours: theirs for theirs, ours in TIMM.items()}
    named = {translate(key, names): value for key, value in weights.items()}
    if 'reg_token' in named:  # which has positions in timm
        number = int('cls_token' in named)
        prefix, patches = named['pos_embed'].tensor_split([number], dim=1)
        nothing = torch.zeros_like(named['reg_token'])
        named['pos_embed'] = torch.cat((prefix, nothing, patches), dim=1)
    return named


def model_config(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` that timm reads, for arguments of `PositionViT`."""
    arch, cls = cfg['arch'], cfg['with_cls_token']
    return dict(
        architecture='vit_base_patch16_224',  # all of its sizes are given anew
        num_classes=0,
        model_args=dict(
            img_size=cfg['img_size'],
            patch_size=cfg['patch_size'],
            in_chans=cfg['in_channels'],
            embed_dim=arch['embed_dims'],
            depth=arch['num_layers'],
            num_heads=arch['num_heads'],
            mlp_ratio=arch['feedforward_channels'] / arch['embed_dims'],
            qkv_bias=cfg['qkv_bias'],
            init_values=cfg['layer_scale_init_value'] or None,
            class_token=cls,
            reg_tokens=cfg['num_registers'],
            global_pool='token' if cls else 'avg',
            fc_norm=False,
            pre_norm=cfg['pre_norm'],
            final_norm=cfg['final_norm'],
        ),
        pretrained_cfg=dict(
            input_size=[cfg['in_channels'], *cfg['img_size']],
            num_classes=0,
            first_conv='patch_embed.proj',
            classifier='head',
        ),
    )
