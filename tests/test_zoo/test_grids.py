"""Which grid does a position embedding have? What does not tell is not guessed."""

import official
import pytest
import torch
from tiny_backbones import ARCH, vit

from mmpospretrain.zoo.formats.export import read_backbone
from mmpospretrain.zoo.positions import possible_grids
from mmpospretrain.zoo.pretrained import load_backbone


@pytest.mark.parametrize(
    ('number', 'like', 'grids'),
    [
        (36, (4, 9), [(6, 6), (4, 9)]),
        (36, (9, 4), [(6, 6), (9, 4)]),
        (36, (8, 18), [(6, 6), (4, 9)]),
        (36, (14, 14), [(6, 6)]),
        (36, (5, 7), [(6, 6)]),
        (16, (2, 8), [(4, 4), (2, 8)]),
        (8, (2, 4), [(2, 4)]),
        (24, (14, 14), []),
        (0, (3, 3), [(0, 0)]),
    ],
)
def test_possible_grids(number, like, grids):
    assert possible_grids(number, like) == grids


@pytest.fixture
def timm_file(tmp_path):
    """Saves a timm ViT for images of some size; returns its path and weights."""

    def save(size):
        weights = official.timm_vit(img_size=size).state_dict()
        torch.save(weights, tmp_path / 'timm.pth')
        return str(tmp_path / 'timm.pth'), weights

    return save


@pytest.mark.parametrize(
    ('size', 'target', 'words'),
    [
        ((32, 128), (32, 128), '16 patches, which may be 4x4 or 2x8'),
        ((32, 128), (64, 256), '16 patches, which may be 4x4 or 2x8'),
        ((16, 64), (64, 16), '4 patches, which may be 2x2 or 4x1'),
        ((16, 144), (144, 16), '9 patches, which may be 3x3 or 9x1'),
        ((32, 64), (32, 64), '8 patches, which are no 2x2'),
    ],
)
def test_a_grid_that_may_be_another_is_asked_for(timm_file, size, target, words):
    path, weights = timm_file(size)
    backbone = vit(img_size=target)
    with pytest.raises(ValueError, match=rf'{words}: .*source_grid=\(rows, cols\)'):
        load_backbone(backbone, path)
    grid = tuple(side // 16 for side in size)
    line = load_backbone(backbone, path, source_grid=grid)
    if size == target:
        assert 'resampled' not in line
        assert torch.equal(backbone.pos_embed, weights['pos_embed'])


def test_a_format_of_squares_is_proof(tmp_path):
    """Whoever writes it has no other grids."""
    weights = official.encoder(grid=6)
    torch.save({'target_encoder': weights}, tmp_path / 'ijepa.pth.tar')
    line = load_backbone(
        vit(img_size=(64, 144), with_cls_token='cls_token' in weights),
        tmp_path / 'ijepa.pth.tar',
    )
    assert 'pos_embed resampled 6x6 -> 4x9' in line


def test_the_config_inside_is_proof(tmp_path):
    backbone = vit(img_size=(64, 144))
    weights = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    cfg = 'model = dict(backbone=dict(img_size=(64, 144), patch_size=16))'
    torch.save(dict(state_dict=weights, meta=dict(cfg=cfg)), tmp_path / 'ours.pth')
    assert 'resampled' not in load_backbone(
        vit(img_size=(64, 144)), tmp_path / 'ours.pth'
    )


def test_export_says_and_asks(timm_file):
    path, weights = timm_file((32, 128))
    heads = dict(num_heads=ARCH['num_heads'])
    assert '16 positions taken for 4x4' in read_backbone(path, **heads).notes
    with pytest.raises(ValueError, match=r'4x4 or 2x8: .*--source-grid'):
        read_backbone(path, img_size=(32, 128), **heads)
    backbone = read_backbone(path, source_grid=(2, 8), **heads)
    assert backbone.cfg['img_size'] == (32, 128)
    assert torch.equal(backbone.weights['pos_embed'], weights['pos_embed'])
    assert not [note for note in backbone.notes if 'taken for' in note]
