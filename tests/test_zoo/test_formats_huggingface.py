"""What transformers saves gives its own features here."""

import numpy as np
import official
import pytest
import torch
import transformers
from tiny_backbones import refuse, vit

from mmpospretrain.zoo import load_backbone

SIZE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=64)


def save(tmp_path, kind: str, **options):
    """A model of transformers with random weights, and its file."""
    torch.manual_seed(0)
    hidden = dict(mlp_ratio=2) if 'Dinov2' in kind else dict(intermediate_size=64)
    name = kind.removesuffix('ForImageClassification').removesuffix('Model')
    config = getattr(transformers, f'{name}Config')
    settings = dict(patch_size=16, layer_norm_eps=1e-6)
    config = config(**{**SIZE, **hidden, **settings, **options})
    model = official.randomise(getattr(transformers, kind)(config))
    model.save_pretrained(tmp_path)
    return model, tmp_path / 'model.safetensors'


@pytest.mark.parametrize(
    ('kind', 'options', 'ours', 'note'),
    [
        ('ViTModel', {}, {}, 'Hugging Face ViT; 2 of other parts skipped (pooler)'),
        ('ViTModel', dict(qkv_bias=False), dict(qkv_bias=False), 'Hugging Face ViT; '),
        (
            'ViTForImageClassification',
            {},
            {},
            "Hugging Face ViT, 'vit'; 2 of other parts skipped (classifier)",
        ),
        ('IJepaModel', {}, dict(with_cls_token=False), 'Hugging Face ViT'),
        (
            'Dinov2Model',
            {},
            dict(layer_scale_init_value=1e-5),
            'Hugging Face DINOv2; 1 of other parts skipped (embeddings)',
        ),
        (
            'Dinov2WithRegistersModel',
            dict(num_register_tokens=3),
            dict(layer_scale_init_value=1e-5, num_registers=3),
            'Hugging Face DINOv2; 1 of other parts skipped (embeddings)',
        ),
    ],
)
def test_features(kind, options, ours, note, tmp_path):
    model, path = save(tmp_path, kind, **options)
    backbone = vit(img_size=64, **ours).eval()
    assert f'recognised as {note}' in load_backbone(backbone, path)
    images = torch.randn(2, 3, 64, 64)
    body = getattr(model, 'vit', model)
    with torch.no_grad():
        expected = body(images).last_hidden_state
        registers = slice(1, 1 + backbone.num_registers)
        expected = torch.from_numpy(np.delete(expected.numpy(), registers, axis=1))
        features = backbone(images)[-1]
    assert expected.std() > 0.1
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_a_key_without_its_two_others(tmp_path):
    weights = {
        'embeddings.patch_embeddings.projection.weight': torch.zeros(32, 3, 16, 16),
        'encoder.layer.0.layernorm_before.weight': torch.zeros(32),
        'encoder.layer.0.attention.attention.key.weight': torch.zeros(32, 32),
    }
    torch.save(weights, tmp_path / 'part.pth')
    match = r'looks like Hugging Face ViT.* 1 of its keys.*attention\.key\.weight'
    refuse(vit(img_size=64), tmp_path / 'part.pth', match)
