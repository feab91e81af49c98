"""PositionViT beside the ViT that it opens up."""

import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer

from mmpospretrain.evaluation.features import frozen_encoder
from mmpospretrain.models import FieldViT, PositionViT, ViTDet
from mmpospretrain.models.attention import run_layer
from mmpospretrain.models.positions import sincos_pos_embed

TINY = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)


def build(**kwargs) -> PositionViT:
    torch.manual_seed(0)
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
        positions=positions,
        learnable_pos_embed=True,
        num_registers=2,
        frozen_stages=TINY['num_layers'],
    )
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('with_cls_token', [True, False])
@pytest.mark.parametrize('positions', ['sincos', 'relative'])
def test_registers(positions, with_cls_token):
    """Layers see them after [CLS], without a position; outputs have none."""
    model = build(
        num_registers=3,
        positions=positions,
        with_cls_token=with_cls_token,
        out_indices=[0, 1, 2],
        final_norm=False,
    ).eval()
    for layer in model.layers if positions == 'relative' else ():
        for worth in layer.attn.rel_pos_bias.parameters():
            torch.nn.init.normal_(worth)
    assert model.register_tokens.std().item() == pytest.approx(0.02, rel=0.3)
    images = torch.randn(2, 3, 48, 80)
    x = model.patchify(images)[0] + model.patch_positions()
    tokens = [model.register_tokens, x]
    if with_cls_token:
        position = 0 if model.pos_embed is None else model.pos_embed[:, :1]
        tokens.insert(0, model.cls_token + position)
    x = torch.cat([token.expand(2, -1, -1) for token in tokens], dim=1)
    seen = []
    for layer in model.layers:
        if positions == 'relative':
            x = run_layer(layer, x, bias=layer.attn.rel_pos_bias((3, 5)))
        else:
            x = layer(x)
        seen.append(x)
    outputs = model(images)
    for output, x in zip(outputs, seen, strict=True):
        patches = x[:, -15:]
        expected = torch.cat((x[:, :1], patches), 1) if with_cls_token else patches
        torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
    outputs[-1].sum().backward()
    assert model.register_tokens.grad.abs().sum() > 0


def test_registers_are_always_looked_at():
    """As [CLS] is, when attention is for the first patches alone."""
    model = build(num_registers=2).eval()
    patches = torch.randn(1, 6, 32)
    few = model.encode(patches, num_context=4)[-1]
    assert few.shape == (1, 7, 32)
    with torch.no_grad():  # not by a constant, which norms do not see
        model.register_tokens.add_(torch.randn(1, 2, 32))
    changed = model.encode(patches, num_context=4)[-1]
    assert (changed - few).abs().max() > 1e-3
    torch.testing.assert_close(
        model.encode(patches[:, :4])[-1],
        model.encode(patches, num_context=4)[-1][:, :5],
        rtol=1e-5,
        atol=1e-5,
    )


def test_depth_of_registers():
    model = build(num_registers=2)
    assert model.get_layer_depth('a.register_tokens', 'a.') == (0, 5)
    assert model.get_layer_depth('a.cls_token', 'a.') == (0, 5)
    assert model.get_layer_depth('a.layers.1.ln1.bias', 'a.') == (2, 5)


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
        (dict(num_registers=-1), 'num_registers must be at least 0, got -1'),
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


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What `check_grid` says."""
    said = []
    monkeypatch.setattr(
        'mmpospretrain.models.backbones.position_vit.print_log',
        lambda text, **options: said.append(text),
    )
    return said


@pytest.mark.parametrize('positions', ['sincos', 'learned', 'relative'])
@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'avg_featmap', 'pooled'])
def test_another_grid_is_told_once(positions, out_type, warnings):
    model = build(positions=positions, out_type=out_type)
    model(torch.randn(1, 3, 48, 80))
    assert not warnings
    for _ in range(2):
        model(torch.randn(1, 3, 64, 32))
    (text,) = warnings
    assert '3 x 5 patches (48 x 80 pixels)' in text
    assert '4 x 2 patches (64 x 32 pixels)' in text
    assert 'model.backbone.img_size' in text


def test_another_grid_is_told_of_mmpretrain_s_vit_too(warnings):
    upstream = VisionTransformer(arch=TINY, img_size=48)
    frozen_encoder(upstream).pooled(torch.randn(1, 3, 32, 32))
    assert len(warnings) == 1


def test_where_any_grid_is_meant_nothing_is_told(warnings):
    image = torch.randn(1, 3, 64, 32)
    build(out_type='featmap')(image)
    build(positions='none')(image)
    FieldViT(arch=TINY, img_size=48, field_size=5).eval()(image)
    ViTDet(arch=dict(TINY, num_layers=4), img_size=48)(image)
    build().patch_positions((2, 2))  # of a local view
    assert not warnings
