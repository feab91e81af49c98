"""Relative positions: golden values, and what they do to a backbone."""

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmpospretrain.models import PositionViT, ViTDet
from mmpospretrain.models.attention import run_layer
from mmpospretrain.models.positions import RelativePositionBias

ARCH = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)


def vit(**options) -> PositionViT:
    torch.manual_seed(0)
    model = PositionViT(arch=ARCH, img_size=(48, 80), **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.eval()
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('prefix', [0, 1, 4])
def test_golden_bias(prefix):
    """Pair by pair: offset of the query from the key, and [CLS] apart."""
    bias = RelativePositionBias((3, 5), 2, prefix)
    for parameter in bias.parameters():
        nn.init.normal_(parameter)
    result = bias()
    assert result.shape == (1, 2, prefix + 15, prefix + 15)
    for head in range(2):
        for i in range(-prefix, 15):
            for j in range(-prefix, 15):
                if i < 0 and j < 0:
                    expected = bias.prefix[head, 2]
                elif i < 0:
                    expected = bias.prefix[head, 0]
                elif j < 0:
                    expected = bias.prefix[head, 1]
                else:
                    row, col = i // 5 - j // 5 + 2, i % 5 - j % 5 + 4
                    expected = bias.table[head, row, col]
                assert result[0, head, i + prefix, j + prefix] == expected


def test_other_grids():
    """The table is stretched; its middle, no offset at all, stays."""
    bias = RelativePositionBias((3, 5), 2, 0)
    nn.init.normal_(bias.table)
    larger = bias((6, 10))
    assert larger.shape == (1, 2, 60, 60)
    torch.testing.assert_close(larger[0, :, 7, 7], bias.table[:, 2, 4])
    nn.init.constant_(bias.table, 0.5)
    torch.testing.assert_close(bias((4, 2)), torch.full((1, 2, 8, 8), 0.5))


@pytest.mark.parametrize('with_cls_token', [True, False])
def test_zero_bias_is_no_positions(images, with_cls_token):
    options = dict(with_cls_token=with_cls_token)
    relative, none = (vit(positions=p, **options) for p in ('relative', 'none'))
    fresh = PositionViT(
        arch=ARCH, img_size=(48, 80), positions='relative', **options
    ).state_dict()
    biases = {k: v for k, v in fresh.items() if 'rel_pos_bias' in k}
    assert len(biases) == 3 * (1 + with_cls_token)
    assert not any(value.any() for value in biases.values())
    relative.load_state_dict({**none.state_dict(), **biases})
    torch.testing.assert_close(relative(images), none(images))


def test_bias_tells_where_patches_are(images):
    """Unlike none, whose patches may be shuffled."""
    for positions, same in (('none', True), ('relative', False)):
        model = vit(positions=positions)
        patches, _ = model.patchify(images)
        permutation = torch.randperm(15)
        (bag,) = model.encode(patches)
        (shuffled,) = model.encode(patches[:, permutation])
        difference = (shuffled[:, 1:] - bag[:, 1:][:, permutation]).abs().max()
        assert (difference < 1e-4) == same


@pytest.mark.parametrize('positions', ['none', 'relative'])
def test_fused_and_plain_attention_agree(images, positions):
    """PyTorch's fused kernels take the bias, and say the same as its plain one."""
    model = vit(positions=positions)
    with torch.no_grad():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # an error if it cannot
            (fused,) = model(images)
        with sdpa_kernel(SDPBackend.MATH):
            (plain,) = model(images)
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


def test_a_part_of_the_patches(images):
    model = vit(positions='relative')
    patches, _ = model.patchify(images)
    with pytest.raises(ValueError, match=r'all patches of a grid of \(3, 5\).*got 9'):
        model.encode(patches[:, :9])


def test_every_layer_learns(images):
    model = vit(positions='relative')
    model(images)[0].square().sum().backward()
    for layer in model.layers:
        for parameter in layer.attn.rel_pos_bias.parameters():
            assert parameter.grad.abs().max() > 0


def test_layer_equals_upstream_layer(images):
    """All ask, all are looked at: MMPretrain's own layer, layer scale included."""
    model = vit(positions='none', layer_scale_init_value=0.5)
    x = torch.randn(2, 7, 32)
    for layer in model.layers:
        torch.testing.assert_close(run_layer(layer, x), layer(x))
        asked = run_layer(layer, x, queries=slice(3, None))
        torch.testing.assert_close(asked, layer(x)[:, 3:])


def test_dropout_of_attention_in_training_alone():
    model = vit(positions='none', layer_cfgs=dict(attn_drop_rate=0.5))
    layer, x = model.layers[0], torch.randn(2, 7, 32)
    torch.testing.assert_close(run_layer(layer, x), layer(x))
    layer.train()
    first, other = (run_layer(layer, x) for _ in range(2))
    assert not torch.allclose(first, other)


def test_no_bias_in_the_projections():
    model = vit(positions='none', qkv_bias=False)
    x = torch.randn(2, 7, 32)
    torch.testing.assert_close(run_layer(model.layers[0], x), model.layers[0](x))


@pytest.mark.parametrize('positions', ['relative', 'none'])
def test_no_embedding(images, positions):
    model = PositionViT(arch=ARCH, img_size=(48, 80), positions=positions)
    model.init_weights()
    assert model.pos_embed is None
    assert 'pos_embed' not in model.state_dict()
    assert model.patch_positions().shape == (1, 15, 32)
    assert not model.patch_positions().any()
    (other,) = model(torch.randn(2, 3, 64, 32))  # another grid
    assert other.shape == (2, 9, 32)
    with torch.no_grad():
        (pooled,) = model.pooled(images)
    assert pooled.shape == (2, 32)


def test_learned_positions_are_random_and_trained():
    model = PositionViT(arch=ARCH, positions='learned')
    assert model.pos_embed.requires_grad
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize('method', ['DropPos', 'IJEPA'])
def test_methods_that_need_embeddings(method):
    backbone = dict(
        type='mmpospretrain.PositionViT',
        arch=ARCH,
        positions='none',
        with_cls_token=method == 'DropPos',
    )
    parts = dict(
        DropPos=dict(head=dict(type='mmpospretrain.PositionHead')),
        IJEPA=dict(neck=dict(type='mmpospretrain.LatentPredictor')),
    )
    cfg = dict(type=f'mmpospretrain.{method}', backbone=backbone, **parts[method])
    with pytest.raises(ValueError, match="positions='sincos' or 'learned', got 'none'"):
        MODELS.build(cfg)


def test_detection():
    """Decomposed there, and by the same option."""
    model = ViTDet(arch=dict(ARCH, num_layers=4), img_size=128, positions='relative')
    assert model.pos_embed is None
    assert model.layers[0].attn.rel_pos_h is not None
    assert not any('rel_pos_bias' in key for key in model.state_dict())
    none = ViTDet(arch=dict(ARCH, num_layers=4), img_size=128, positions='none')
    assert none.layers[0].attn.rel_pos_h is None
    weights = {k: v for k, v in model.state_dict().items() if 'rel_pos' not in k}
    none.load_state_dict(weights)
    images = torch.randn(1, 3, 128, 96)
    model.eval()
    none.eval()
    torch.testing.assert_close(model(images), none(images))
