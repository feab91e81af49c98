"""Checkpoints as their authors save them: documented key names, random weights."""

import re
from argparse import Namespace
from collections import OrderedDict

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIZE = dict(img_size=64, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2)


def timm_vit(**options) -> VisionTransformer:
    """A small one without a classifier, all of its weights random."""
    torch.manual_seed(0)
    model = VisionTransformer(**{**SIZE, 'num_classes': 0, **options})
    return randomise(model)


def randomise(model: nn.Module, std: float = 0.1) -> nn.Module:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std if parameter.ndim > 1 else 0.5)
    return model.eval()


def block(prefix: str, width: int = 32, hidden: int = 64) -> dict[str, Tensor]:
    """One layer as in the code of timm 0.3, MAE, DINO, I-JEPA and DINOv2."""
    shapes = {
        'norm1.weight': (width,),
        'norm1.bias': (width,),
        'attn.qkv.weight': (3 * width, width),
        'attn.qkv.bias': (3 * width,),
        'attn.proj.weight': (width, width),
        'attn.proj.bias': (width,),
        'norm2.weight': (width,),
        'norm2.bias': (width,),
        'mlp.fc1.weight': (hidden, width),
        'mlp.fc1.bias': (hidden,),
        'mlp.fc2.weight': (width, hidden),
        'mlp.fc2.bias': (width,),
    }
    return {prefix + key: torch.randn(shape) * 0.2 for key, shape in shapes.items()}


def encoder(patch: int = 16, grid: int = 4, cls: bool = True) -> dict[str, Tensor]:
    """A backbone, 32 wide, of two layers."""
    weights = {
        'pos_embed': torch.randn(1, grid**2 + cls, 32),
        'patch_embed.proj.weight': torch.randn(32, 3, patch, patch) * 0.05,
        'patch_embed.proj.bias': torch.randn(32),
        **block('blocks.0.'),
        **block('blocks.1.'),
        'norm.weight': torch.randn(32),
        'norm.bias': torch.randn(32),
    }
    return {'cls_token': torch.randn(1, 1, 32), **weights} if cls else weights


def ddp(weights: dict[str, Tensor], prefix: str = '') -> OrderedDict[str, Tensor]:
    """As the state dict of DistributedDataParallel."""
    return OrderedDict((f'module.{prefix}{k}', v) for k, v in weights.items())


def decoder(prefix: str = 'decoder_', out: int = 16 * 16 * 3) -> dict[str, Tensor]:
    """Of MAE, 16 wide."""
    return {
        f'{prefix}embed.weight': torch.randn(16, 32),
        f'{prefix}embed.bias': torch.randn(16),
        **block(f'{prefix}blocks.0.', 16, 64),
        f'{prefix}norm.weight': torch.randn(16),
        f'{prefix}norm.bias': torch.randn(16),
        f'{prefix}pred.weight': torch.randn(out, 16),
        f'{prefix}pred.bias': torch.randn(out),
    }


def mae() -> dict:
    positions = {'decoder_pos_embed': torch.randn(1, 17, 16)}
    token = {'mask_token': torch.randn(1, 1, 16)}
    return {'model': {**encoder(), **token, **positions, **decoder()}, 'epoch': 799}


def droppos(multi_task: bool = False) -> dict:
    token = {'mask_pos_token': torch.randn(1, 1, 32)}
    weights = {**encoder(), **token, **decoder(out=16)}
    if multi_task:
        weights['mask_token'] = torch.randn(1, 1, 16)
        weights['aux_decoder_pos_embed'] = torch.randn(1, 17, 16)
        weights |= decoder('aux_decoder_')
    optimizer = {'state': {}, 'param_groups': []}
    return {'model': weights, 'optimizer': optimizer, 'args': Namespace(lr=1e-3)}


def fine_tuned() -> dict:
    """MAE's and DropPos's with the mean of all patches: no final norm, but fc_norm."""
    weights = encoder()
    for kind in ('weight', 'bias'):
        weights[f'fc_norm.{kind}'] = weights.pop(f'norm.{kind}')
    weights |= {'head.weight': torch.randn(10, 32), 'head.bias': torch.randn(10)}
    return {'model': weights, 'epoch': 99}


def ijepa() -> dict:
    predictor = {
        'mask_token': torch.randn(1, 1, 16),
        'predictor_pos_embed': torch.randn(1, 16, 16),
        'predictor_embed.weight': torch.randn(16, 32),
        **block('predictor_blocks.0.', 16, 64),
    }
    return {
        'encoder': ddp(encoder(cls=False)),
        'predictor': ddp(predictor),
        'target_encoder': ddp(encoder(cls=False)),
        'opt': {'state': {0: {'exp_avg': torch.zeros(3)}}, 'param_groups': []},
        'scaler': None,
        'epoch': 300,
        'loss': 0.1,
    }


def dino() -> dict:
    head = {
        'head.mlp.0.weight': torch.randn(8, 32),
        'head.last_layer.weight_g': torch.randn(9, 1),
        'head.last_layer.weight_v': torch.randn(9, 8),
    }
    student = ddp(encoder(), 'backbone.') | ddp(head)
    teacher = {f'backbone.{k}': v for k, v in encoder().items()} | head
    center = OrderedDict(center=torch.zeros(1, 9))
    return {'student': student, 'teacher': teacher, 'epoch': 1, 'dino_loss': center}


def ibot() -> dict:
    checkpoint = dino()
    checkpoint['ibot_loss'] = checkpoint.pop('dino_loss')
    for name, prefix in (('student', 'module.'), ('teacher', '')):
        token = torch.randn(1, 32)
        checkpoint[name][f'{prefix}backbone.masked_embed'] = token
    return checkpoint


def dinov2(patch: int = 14, grid: int = 4) -> dict[str, Tensor]:
    weights = encoder(patch, grid)
    for i in range(2):
        for name in ('ls1', 'ls2'):
            weights[f'blocks.{i}.{name}.gamma'] = torch.randn(32)
    return {'mask_token': torch.randn(1, 32), **weights}


def dinov2_training(weights: dict[str, Tensor]) -> dict:
    """As of its trainer: layers in chunks of one."""
    chunks = {
        re.sub(r'blocks\.(\d+)', r'blocks.\1.\1', key): value
        for key, value in weights.items()
    }
    head = {'dino_head.mlp.0.weight': torch.randn(8, 32)}
    return {'teacher': {f'backbone.{k}': v for k, v in chunks.items()} | head}
