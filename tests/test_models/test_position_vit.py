"""PositionViT beside the ViT that it opens up."""

import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer

from mmpospretrain.models import PositionViT
from mmpospretrain.models.positions import sincos_pos_embed

TINY = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)


def build(**kwargs) -> PositionViT:
    model = PositionViT(
        **{'arch': TINY, 'img_size': (48, 80), 'patch_size': 16, **kwargs}
    )
    model.init_weights()
    model.eval()  # MMPretrain's backbones return None from it
    return model


@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'featmap', 'avg_featmap'])
@pytest.mark.parametrize('size', [(48, 80), (64, 32)])
def test_equals_upstream(out_type, size):
    options = dict(arch=TINY, img_size=(48, 80), out_type=out_type, out_indices=[0, 2])
    ours = PositionViT(**options, positions='learned')
    ours.init_weights()
    upstream = VisionTransformer(**options)
    upstream.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, *size)
    ours.eval()
    upstream.eval()
    for a, b in zip(ours(images), upstream(images), strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b)


def test_without_cls_token():
    model = build(with_cls_token=False)
    assert model.pos_embed.shape == (1, 15, 32)
    assert model(torch.randn(2, 3, 48, 80))[0].shape == (2, 15, 32)


def test_order_of_patches_is_all_in_their_positions():
    model = build()
    patches, grid_size = model.patchify(torch.randn(2, 3, 48, 80))
    assert grid_size == (3, 5)
    permutation = torch.randperm(15)
    (bag,) = model.encode(patches)
    (shuffled,) = model.encode(patches[:, permutation])
    torch.testing.assert_close(shuffled[:, 1:], bag[:, 1:][:, permutation])
    torch.testing.assert_close(shuffled[:, 0], bag[:, 0])


def test_patches_are_row_major():
    model = build()
    images = torch.zeros(1, 3, 48, 80)
    images[..., 16:32, 48:64] = 1  # row 1, column 3
    patches = model.patchify(images)[0] - model.patch_embed.projection.bias
    assert patches[0].abs().sum(-1).nonzero().flatten().tolist() == [1 * 5 + 3]


def test_positions():
    model = build()
    assert not model.pos_embed.requires_grad
    assert torch.equal(model.pos_embed, sincos_pos_embed((3, 5), 32, 1))
    scratch = PositionViT(arch=TINY, img_size=(48, 80))  # init_weights never called
    assert torch.equal(scratch.pos_embed, model.pos_embed)
    learnable = build(learnable_pos_embed=True)
    assert learnable.pos_embed.requires_grad
    assert torch.equal(learnable.pos_embed, model.pos_embed)
    random = build(positions='learned')
    assert random.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize('positions', ['sincos', 'learned', 'relative', 'none'])
def test_frozen_layers_are_frozen_with_their_positions(positions):
    model = build(
        positions=positions, learnable_pos_embed=True, frozen_stages=TINY['num_layers']
    )
    assert not any(p.requires_grad for p in model.parameters())


def test_small_is_the_small_of_the_field():
    assert PositionViT(arch='small').embed_dims == 384
    assert PositionViT(arch='small').num_layers == 12


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(img_size=50), 'patch_size 16 does not divide the image of 50x50'),
        (dict(arch='bas'), "arch must be one of .*'base'.*, got 'bas'"),
        (dict(arch=dict(embed_dims=8)), "arch needs .*'num_heads'.*got"),
        (dict(in_channels=0), 'in_channels must be at least 1, got 0'),
        (dict(positions='random'), r"'sincos', 'learned', .*, got 'random'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_bad_images():
    model = build()
    with pytest.raises(ValueError, match='does not divide the image of 48x81'):
        model(torch.zeros(1, 3, 48, 81))
    with pytest.raises(ValueError, match=r'takes 3 channels, got .*\(1, 1, 48, 80\)'):
        model(torch.zeros(1, 1, 48, 80))
