"""export_model.py: what it writes loads strictly elsewhere, and gives our features."""

import json
from itertools import product

import cv2
import numpy as np
import pytest
import timm
import torch
import transformers
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmpretrain.models import ClsDataPreprocessor, VisionTransformer
from PIL import Image
from safetensors import safe_open
from torch import nn

from mmpospretrain.models import FieldViT, PositionViT
from mmpospretrain.zoo import load_backbone
from mmpospretrain.zoo.loading import load_strict

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
LAYER_SCALE = dict(layer_scale_init_value=1e-5)


@pytest.fixture
def save(tmp_path):
    """A backbone with random weights, saved as MMEngine saves a pre-training."""

    def write(kind=PositionViT, prefix='backbone.', meta=True, images=None, **options):
        torch.manual_seed(0)
        cfg = {**dict(arch=ARCH, img_size=64, patch_size=16), **options}
        backbone = kind(**cfg)
        for parameter in backbone.parameters():
            nn.init.normal_(parameter, std=0.1 if parameter.ndim > 1 else 0.5)
        weights = {f'{prefix}{k}': v for k, v in backbone.state_dict().items()}
        checkpoint = {'state_dict': {**weights, 'head.fc.weight': torch.zeros(2, 32)}}
        if meta:
            text = Config(dict(model=dict(backbone=cfg), **(images or {}))).pretty_text
            checkpoint['meta'] = dict(cfg=text)
        torch.save(checkpoint, tmp_path / 'epoch_1.pth')
        return backbone.eval(), tmp_path / 'epoch_1.pth'

    return write


def read(to, out):
    """A model of the library, loaded in its own way."""
    if to == 'timm':
        return timm.create_model(f'local-dir:{out}', pretrained=True).eval()
    if to == 'hf':
        model, info = transformers.AutoModel.from_pretrained(
            out, output_loading_info=True
        )
        # The pooler, which is no part of the features, is not in the file.
        assert all(key.startswith('pooler.') for key in info['missing_keys'])
        assert not info['unexpected_keys']
        assert not info['mismatched_keys']
        return model.eval()
    checkpoint = torch.load(out)
    cfg = dict(checkpoint['meta']['backbone'])
    assert cfg.pop('type') == 'VisionTransformer'
    model = VisionTransformer(**cfg)
    model.load_state_dict(
        {k.removeprefix('backbone.'): v for k, v in checkpoint['state_dict'].items()}
    )
    model.eval()
    return model


def features(model, images):
    with torch.no_grad():
        if hasattr(model, 'forward_features'):
            return model.forward_features(images)
        outputs = model(images)
    return outputs[-1] if isinstance(outputs, tuple) else outputs.last_hidden_state


PLAIN = dict(positions='learned')
CASES = [
    PLAIN,
    dict(),  # sin-cos
    dict(positions='none'),
    dict(PLAIN, with_cls_token=False),
    dict(positions='none', with_cls_token=False),
    dict(PLAIN, **LAYER_SCALE),
    dict(PLAIN, img_size=(64, 96)),
    dict(PLAIN, qkv_bias=False),
    dict(kind=FieldViT, field_size=7),
    dict(kind=FieldViT, field_size=7, field_mode='bilinear', with_cls_token=False),
    dict(kind=FieldViT, field_size=7, prefix='target_encoder.', **LAYER_SCALE),
]


@pytest.mark.parametrize(
    ('case', 'to'),
    [
        *product(CASES, ['timm', 'hf', 'mmpretrain']),
        (dict(PLAIN, num_registers=3), 'timm'),
        (dict(PLAIN, num_registers=3, with_cls_token=False), 'timm'),
        (dict(positions='none', num_registers=3, **LAYER_SCALE), 'timm'),
        (dict(PLAIN, num_registers=3, **LAYER_SCALE), 'timm'),
        (dict(PLAIN, num_registers=3, **LAYER_SCALE), 'hf'),
    ],
    ids=str,
)
def test_features_elsewhere(case, to, save, tool, tmp_path, capsys):
    backbone, checkpoint = save(**case)
    out = tmp_path / 'new' / 'out'
    assert tool('export_model.py', checkpoint, '--to', to, '--out', out) is None
    printed = capsys.readouterr().out
    assert f'{out}: exported from epoch_1.pth to {to}; 1 outside' in printed
    none = case.get('positions') == 'none'
    assert ('no positions: pos_embed is zeros' in printed) == none
    assert ('sampled from the 7x7 field' in printed) == (case.get('kind') is FieldViT)
    model = read(to, out)
    images = torch.randn(2, 3, *backbone.img_size)
    expected = features(backbone, images)
    assert expected.std() > 0.1
    found = features(model, images)
    cls = int(backbone.cls_token is not None)
    registers = slice(cls, cls + backbone.num_registers)  # of which ours says nothing
    found = torch.from_numpy(np.delete(found.numpy(), registers, axis=1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def resized(name, **options):
    return [
        dict(type=name, backend='pillow', **options),
        *([dict(type='CenterCrop', crop_size=64)] * (name == 'ResizeEdge')),
        dict(type='PackInputs'),
    ]


HALF = dict(mean=[127.5] * 3, std=[127.5] * 3)


@pytest.mark.parametrize(
    ('preprocessor', 'pipeline'),
    [
        (HALF, resized('Resize', scale=(64, 64), interpolation='bilinear')),
        (HALF, resized('ResizeEdge', scale=72, interpolation='bicubic')),
        (
            dict(mean=[0.0, 10.0, 20.0], std=[50.0, 60.0, 70.0]),
            resized('ResizeEdge', scale=80, interpolation='lanczos'),
        ),
        ({}, []),
    ],
    ids=['square', 'crop', 'other mean', 'not said'],
)
def test_image_processor(preprocessor, pipeline, save, tool, tmp_path, capsys):
    """Hugging Face's prepares an image as the config in the checkpoint does."""
    images = dict(data_preprocessor=preprocessor, val_pipeline=pipeline)
    _, checkpoint = save(positions='learned', images=images)
    out = tmp_path / 'out'
    assert tool('export_model.py', checkpoint, '--to', 'hf', '--out', out) is None
    said = "mean and std of ImageNet, as the checkpoint doesn't say"
    assert (said in capsys.readouterr().out) == (not preprocessor)
    # OpenCV's order of channels, as MMPretrain reads files.
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 3)
    processor = transformers.AutoImageProcessor.from_pretrained(out, use_fast=False)
    found = processor(Image.fromarray(image[..., ::-1]), return_tensors='pt')
    pipeline = pipeline or resized('Resize', scale=(64, 64), interpolation='bicubic')
    packed = Compose(pipeline)(dict(img=image, img_path=''))
    ours = preprocessor or dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    )
    prepare = ClsDataPreprocessor(to_rgb=True, **ours)
    expected = prepare(default_collate([packed]))['inputs']
    torch.testing.assert_close(found['pixel_values'], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize('positions', ['learned', 'none', 'relative'])
def test_safetensors(positions, save, tool, tmp_path, monkeypatch):
    """One file, by default in the working folder; nothing of the backbone is lost."""
    backbone, checkpoint = save(positions=positions, num_registers=2, **LAYER_SCALE)
    monkeypatch.chdir(tmp_path)
    assert tool('export_model.py', checkpoint, '--to', 'safetensors') is None
    out = tmp_path / 'epoch_1.safetensors'
    with safe_open(out, 'pt') as file:
        metadata = file.metadata()
    cfg = json.loads(metadata['backbone'])
    assert 'exported from epoch_1.pth' in metadata['notes']
    assert cfg['positions'] == positions
    rebuilt = PositionViT(**cfg).eval()
    load_strict(rebuilt, out)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(features(rebuilt, images), features(backbone, images))


def test_there_and_back(save, tool, tmp_path):
    """What was exported is a format that is recognised."""
    options = dict(positions='learned', num_registers=2, **LAYER_SCALE)
    backbone, checkpoint = save(**options)
    first, second = tmp_path / 'timm', tmp_path / 'hf'
    assert tool('export_model.py', checkpoint, '--to', 'timm', '--out', first) is None
    weights = first / 'model.safetensors'
    args = ('--to', 'hf', '--out', second, '--num-heads', 4)
    assert tool('export_model.py', weights, *args) is None
    again = PositionViT(arch=ARCH, img_size=64, **options)
    line = load_backbone(again, second / 'model.safetensors')
    assert 'recognised as Hugging Face DINOv2' in line
    for key, value in backbone.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_another_grid(save, tool, tmp_path):
    backbone, checkpoint = save(FieldViT, field_size=7)
    size = ('--img-size', 64, 96)
    args = (checkpoint, '--to', 'hf', '--out', tmp_path / 'out', *size)
    assert tool('export_model.py', *args) is None
    images = torch.randn(1, 3, 64, 96)
    model = read('hf', tmp_path / 'out')
    torch.testing.assert_close(
        features(model, images), features(backbone, images), rtol=1e-5, atol=1e-5
    )


def test_known_sizes_need_no_config(tool, tmp_path):
    """A ViT-T of DeiT's sizes has 3 heads."""
    backbone = PositionViT(arch='deit-tiny', img_size=32, patch_size=16)
    torch.save(backbone.state_dict(), tmp_path / 'bare.pth')
    args = ('--to', 'timm', '--out', tmp_path / 'out')
    assert tool('export_model.py', tmp_path / 'bare.pth', *args) is None
    model = read('timm', tmp_path / 'out')
    assert model.blocks[0].attn.num_heads == 3


@pytest.mark.parametrize(
    ('case', 'args', 'message'),
    [
        (dict(positions='relative'), ('--to', 'timm'), "with positions='relative'"),
        (dict(positions='relative'), ('--to', 'mmpretrain'), '--to safetensors keeps'),
        (dict(final_norm=False), ('--to', 'hf'), 'no ViT with final_norm=False'),
        (dict(pre_norm=True), ('--to', 'hf'), 'no ViT with pre_norm=True'),
        (
            dict(LAYER_SCALE, with_cls_token=False),
            ('--to', 'hf'),
            'no ViT with with_cls_token=False',
        ),
        (
            dict(LAYER_SCALE, img_size=(64, 96)),
            ('--to', 'hf'),
            'no ViT with img_size=(64, 96)',
        ),
        (dict(num_registers=3), ('--to', 'mmpretrain'), 'no ViT with num_registers=3'),
        (
            dict(num_registers=3),
            ('--to', 'hf'),
            '(without LayerScale) has no',
        ),
        (dict(meta=False), ('--to', 'timm'), 'give --num-heads'),
        (dict(meta=False), ('--to', 'timm', '--num-heads', 5), '5 heads do not divide'),
        (
            dict(meta=False, positions='none'),
            ('--to', 'timm', '--num-heads', 4),
            'give --img-size',
        ),
        (dict(), ('--to', 'timm', '--img-size', 1, 2, 3), 'one number or two'),
        (dict(), ('--to', 'timm', '--prefix', 'neck'), "begins with 'neck.'"),
    ],
)
def test_refused(case, args, message, save, tool, tmp_path):
    _, checkpoint = save(**case)
    error = tool('export_model.py', checkpoint, '--out', tmp_path / 'out', *args)
    assert message in error
    assert not (tmp_path / 'out').exists()


def test_nothing_is_overwritten(save, tool, tmp_path):
    _, checkpoint = save()
    error = tool('export_model.py', checkpoint, '--to', 'timm', '--out', tmp_path)
    assert f'there is something at {tmp_path}' in error


def test_no_checkpoint(tool, tmp_path):
    assert 'nowhere' in tool('export_model.py', tmp_path / 'nowhere', '--to', 'timm')
