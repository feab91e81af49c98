"""Positions of a fine-tuning that its pre-training did not have, and the reverse."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mmpospretrain.models import PositionViT, ViTDet
from mmpospretrain.zoo import load_backbone

ARCH = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64)


def save(path: Path, **options) -> PositionViT:
    torch.manual_seed(0)
    backbone = PositionViT(arch=ARCH, img_size=(64, 96), **options)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    weights = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    weights['head.classifier.bias'] = torch.ones(3)
    torch.save(dict(state_dict=weights), path)
    return backbone


@pytest.mark.parametrize('kind', [PositionViT, ViTDet])
@pytest.mark.parametrize(
    ('positions', 'note'),
    [
        ('learned', 'positions start fresh: pos_embed'),
        ('sincos', 'positions start fresh: pos_embed'),
        ('relative', r'positions start fresh: layers\.\*\.attn\.rel_pos_'),
        ('none', 'outside .* skipped'),
    ],
)
def test_after_a_pretraining_without_positions(tmp_path, kind, positions, note):
    """MP3: every weight arrives, positions start as from scratch, and it is said."""
    source = save(tmp_path / 'mp3.pth', positions='none').state_dict()
    options = dict(arch=ARCH, img_size=96, positions=positions)
    torch.manual_seed(1)
    scratch = kind(**options).state_dict()
    torch.manual_seed(1)
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'mp3.pth'))
    backbone = kind(**options, init_cfg=init_cfg)
    backbone.init_weights()
    for key, value in backbone.state_dict().items():
        expected = scratch[key] if 'pos_' in key else source[key]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)
    line = load_backbone(kind(**options), tmp_path / 'mp3.pth')
    assert re.search(note, line)
    assert ('fresh' in line) == (positions != 'none')


@pytest.mark.parametrize('positions', ['relative', 'none'])
def test_embeddings_stay_behind_where_there_is_no_use(tmp_path, positions):
    source = save(tmp_path / 'droppos.pth', learnable_pos_embed=True)
    backbone = PositionViT(arch=ARCH, img_size=(64, 96), positions=positions)
    line = load_backbone(backbone, tmp_path / 'droppos.pth')
    assert 'pos_embed skipped (no position embedding here)' in line
    assert torch.equal(backbone.ln1.weight, source.ln1.weight)


def test_embeddings_that_do_not_fit_are_still_an_error(tmp_path):
    """A width too many is no reason to start fresh."""
    save(tmp_path / 'droppos.pth')
    content = torch.load(tmp_path / 'droppos.pth')
    content['state_dict']['backbone.pos_embed'] = torch.zeros(1, 26, 64)
    torch.save(content, tmp_path / 'wrong.pth')
    with pytest.raises(ValueError, match='pos_embed'):
        load_backbone(PositionViT(arch=ARCH, img_size=(64, 96)), tmp_path / 'wrong.pth')


def test_relative_positions_come_along(tmp_path):
    """From one fine-tuning to the next."""
    source = save(tmp_path / 'tuned.pth', positions='relative')
    backbone = PositionViT(arch=ARCH, img_size=(64, 96), positions='relative')
    line = load_backbone(backbone, tmp_path / 'tuned.pth')
    assert 'fresh' not in line
    for key, value in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value)
