"""Attention statistics against plain loops in float64."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from mmpretrain.models import BEiTViT, MAEViT, VisionTransformer

from mmpospretrain.evaluation.attention import (
    HeadStatistics,
    PositionCorrelation,
    attention_map,
    average_by_offset,
    encode_measured,
    head_statistics,
    measure_heads,
    position_correlation,
)
from mmpospretrain.models import PositionViT, ViTDet

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
GRID = ROWS, COLS = 2, 3
NUM = ROWS * COLS
IMAGES = torch.randn(5, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def disturb(backbone):
    """Weights far from where they start, so that every one of them matters."""
    torch.manual_seed(0)
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return backbone


def position_vit(**kwargs):
    return disturb(PositionViT(arch=ARCH, img_size=(32, 48), **kwargs))


BACKBONES = {
    'sincos': dict(positions='sincos'),
    'relative': dict(positions='relative'),
    'relative, no [CLS]': dict(positions='relative', with_cls_token=False),
    'none, no [CLS]': dict(positions='none', with_cls_token=False),
    'no norm': dict(final_norm=False, out_type='avg_featmap'),
}


@pytest.fixture(params=[*BACKBONES, 'MMPretrain'])
def backbone(request):
    if request.param == 'MMPretrain':
        vit = VisionTransformer(ARCH, img_size=(32, 48), patch_size=16)
        return disturb(vit)
    return position_vit(**BACKBONES[request.param])


def keep(attention, grid_size):
    assert grid_size == GRID
    return attention


def loops(maps, prefix):
    """Entropy, share of the prefix and relative map of the maps (M, T, T) of a head."""
    entropies, shares = [], []
    offsets = {}
    for probabilities in maps.astype(np.float64):
        for i in range(NUM):
            row = probabilities[prefix + i]
            shares.append(row[:prefix].sum())
            row = row[prefix:] / row[prefix:].sum()
            entropies.append(-sum(p * math.log(p) for p in row))
            for j in range(NUM):
                down, right = j // COLS - i // COLS, j % COLS - i % COLS
                offsets.setdefault((down, right), []).append(row[j])
    relative = np.zeros((2 * ROWS - 1, 2 * COLS - 1))
    for (down, right), values in offsets.items():
        relative[down + ROWS - 1, right + COLS - 1] = np.mean(values)
    return np.mean(entropies), np.mean(shares), relative


def test_map_is_what_the_layer_does(backbone):
    """Its rows sum to 1, and values weighted by it are the output of the attention."""
    inputs, outputs = [], []
    for layer in backbone.layers:
        layer.ln1.register_forward_hook(lambda module, args, out: inputs.append(out))
        layer.ln2.register_forward_pre_hook(lambda module, args: outputs.append(args))
    tokens, maps = encode_measured(backbone, IMAGES, keep)
    assert len(maps) == len(inputs) == len(outputs) == 3
    close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
    before = None  # what the layer before has made
    for layer, attention, x, (y,) in zip(
        [*backbone.layers], maps, [*inputs], [*outputs], strict=True
    ):
        close(attention.sum(-1), torch.ones(attention.shape[:3]))
        values = layer.attn.qkv(x).unflatten(-1, (3, 2, 8))[:, :, 2]  # (B, T, H, d)
        weighted = torch.einsum('bhij,bjhd->bihd', attention, values).flatten(2)
        if before is not None:
            close(layer.attn.proj(weighted), y - before)
        before = layer.ffn(layer.ln2(y), y)
    last = backbone.ln1(before) if backbone.final_norm else before
    close(tokens, last[:, -NUM:])


def test_head_statistics_by_loops(backbone):
    _, maps = encode_measured(backbone, IMAGES, keep)
    statistics = head_statistics(backbone, IMAGES.split(2))
    prefix = backbone.num_extra_tokens
    assert statistics.num_images == 5
    assert statistics.grid_size == GRID
    for layer, attention in enumerate(maps):
        for head in range(2):
            entropy, share, relative = loops(attention[:, head].numpy(), prefix)
            found = statistics.entropy[layer, head], statistics.prefix[layer, head]
            np.testing.assert_allclose(found, (entropy, share), rtol=1e-5)
            assert (share > 0) == (prefix > 0)
            np.testing.assert_allclose(
                statistics.relative[layer, head], relative, rtol=1e-5
            )


@pytest.mark.parametrize('positions', ['sincos', 'relative'])
def test_map_by_softmax_in_numpy(positions):
    """From the weights, the bias and the tokens alone."""
    backbone = position_vit(positions=positions)
    layer = backbone.layers[0]
    tokens = torch.randn(1, NUM + 1, 16)
    bias = layer.attn.rel_pos_bias() if positions == 'relative' else None
    found = attention_map(layer.attn, tokens, bias).detach()
    weight, offset, x = (
        a.detach().double().numpy()
        for a in (layer.attn.qkv.weight, layer.attn.qkv.bias, tokens[0])
    )
    for head in range(2):
        rows = slice(8 * head, 8 * head + 8)
        q = x @ weight[:16][rows].T + offset[:16][rows]
        k = x @ weight[16:32][rows].T + offset[16:32][rows]
        logits = q @ k.T / math.sqrt(8)
        if bias is not None:
            logits += bias[0, head].detach().numpy()
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_allclose(found[0, head], expected, rtol=1e-4)


def test_relative_bias_shows_in_the_relative_map():
    """A bias towards what lies right below: bright there, where the map says it is."""
    backbone = PositionViT(arch=ARCH, img_size=(48, 64), positions='relative')
    bias = backbone.layers[0].attn.rel_pos_bias
    rows, cols = 3, 4
    with torch.no_grad():  # the table goes by query minus key
        bias.table[0, rows - 1 - 1, cols - 1 - 1] = 20
    statistics = head_statistics(backbone.eval(), [torch.randn(2, 3, 48, 64)])
    relative = statistics.relative[0, 0]
    assert relative.shape == (5, 7)
    assert np.unravel_index(relative.argmax(), relative.shape) == (2 + 1, 3 + 1)


@pytest.mark.parametrize('prefix', [0, 1])
def test_uniform_attention(prefix):
    size = NUM + prefix
    attention = torch.full((2, 3, size, size), 1 / size)
    heads = measure_heads(attention, GRID)
    np.testing.assert_allclose(heads['entropy'] / 2, math.log(NUM), rtol=1e-6)
    np.testing.assert_allclose(heads['prefix'] / 2, prefix / size, rtol=1e-6)
    np.testing.assert_allclose(heads['relative'] / 2, np.full((3, 3, 5), 1 / NUM))


def test_attention_to_oneself():
    attention = torch.eye(NUM).expand(1, 1, NUM, NUM)
    heads = measure_heads(attention, GRID)
    assert heads['entropy'] == 0
    relative = np.zeros((3, 5))
    relative[1, 2] = 1
    np.testing.assert_array_equal(heads['relative'][0], relative)


def test_all_attention_to_cls():
    """Nothing is left for patches, and nothing becomes NaN."""
    attention = torch.zeros(1, 1, NUM + 1, NUM + 1)
    attention[..., 0] = 1
    heads = measure_heads(attention, GRID)
    assert heads['prefix'] == 1
    assert all(values.isfinite().all() for values in heads.values())


def test_average_by_offset_of_a_row():
    """Three patches in a row, by hand."""
    maps = torch.arange(9.0).view(3, 3)
    expected = [[6, (3 + 7) / 2, (0 + 4 + 8) / 3, (1 + 5) / 2, 2]]
    np.testing.assert_allclose(average_by_offset(maps, (1, 3)), expected)
    column = average_by_offset(maps, (3, 1))
    np.testing.assert_allclose(column, np.transpose(expected))


def test_correlation_is_numpy_s(backbone):
    tokens, _ = encode_measured(backbone, IMAGES)
    tokens = tokens.double().numpy()
    result = position_correlation(backbone, IMAGES.split(2))
    assert result.num_images == 5
    assert result.within.shape == result.across.shape == (*GRID, *GRID)
    within = np.mean([np.corrcoef(image) for image in tokens], axis=0)
    np.testing.assert_allclose(result.within.reshape(NUM, NUM), within, atol=1e-6)
    pairs = [
        np.corrcoef(one, other)[:NUM, NUM:]
        for i, one in enumerate(tokens)
        for j, other in enumerate(tokens)
        if i != j
    ]
    across = np.mean(pairs, axis=0)
    np.testing.assert_allclose(result.across.reshape(NUM, NUM), across, atol=1e-6)


def test_batch_size_does_not_change_results(backbone):
    for measure in (head_statistics, position_correlation):
        for ours, theirs in zip(
            measure(backbone, [IMAGES]), measure(backbone, IMAGES.split(1)), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_model_is_left_as_it_was(backbone):
    backbone.train()
    backbone.layers[1].eval()
    position_correlation(backbone, [IMAGES])
    head_statistics(backbone, [IMAGES])
    assert backbone.training
    assert not backbone.layers[1].training
    assert not any(m._forward_hooks for m in backbone.modules())


def test_images_of_another_size():
    """Positions are resampled, as in ``forward``; one size at a time."""
    backbone = position_vit(positions='relative', out_indices=[2]).eval()
    images = torch.randn(2, 3, 48, 48)
    tokens, _ = encode_measured(backbone, images)
    torch.testing.assert_close(tokens, backbone(images)[0][:, 1:])
    assert head_statistics(backbone, [images]).relative.shape == (3, 2, 5, 5)
    for measure in (head_statistics, position_correlation):
        with pytest.raises(ValueError, match=r'grids of \(3, 3\) and of \(2, 3\)'):
            measure(backbone, [images, IMAGES])


def test_masked_autoencoders_are_not_masked():
    backbone = disturb(MAEViT(ARCH, img_size=32, patch_size=16))
    backbone.eval()
    images = IMAGES[..., :32]
    tokens, maps = encode_measured(backbone, images, lambda attention, grid: grid)
    torch.testing.assert_close(tokens, backbone(images, mask=None)[-1][:, 1:])
    assert maps == [(2, 2)] * 3


def test_a_detector_without_windows():
    """Its tokens are a map; with the same weights, it is the ViT that it was."""
    detector = disturb(ViTDet(arch=ARCH, img_size=(32, 48), window_size=0))
    plain = position_vit(with_cls_token=False)
    plain.load_state_dict(detector.state_dict())
    for measure in (head_statistics, position_correlation):
        for found, expected in zip(
            measure(detector, [IMAGES]), measure(plain, [IMAGES]), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ('backbone', 'name'),
    [
        (ViTDet(arch=ARCH, img_size=64, global_layers=()), 'windows'),
        (
            ViTDet(arch=ARCH, img_size=64, window_size=0, rel_pos=True),
            'relative positions',
        ),
        (BEiTViT(ARCH, img_size=32, patch_size=16), 'BEiTAttention'),
    ],
    ids=['windows', 'relative positions', 'BEiT'],
)
def test_other_attention(backbone, name):
    with pytest.raises(ValueError, match=f'only .* of a plain ViT .* have {name}'):
        head_statistics(backbone, [torch.zeros(1, 3, 32, 32)])


def test_a_single_image():
    with pytest.raises(ValueError, match='needs at least two, got 1'):
        position_correlation(position_vit(), [IMAGES[:1]])


def test_summaries():
    statistics = HeadStatistics(
        entropy=np.array([[1.0, 0.5]]),
        prefix=np.array([[0.25, 0.0]]),
        relative=np.zeros((1, 2, 3, 5)),
        num_images=4,
    )
    assert statistics.summary() == dict(
        num_images=4,
        largest_entropy=math.log(6),
        entropy=[[1.0, 0.5]],
        attention_to_prefix=[[0.25, 0.0]],
    )
    within = np.array([[1.0, 0.5], [0.3, 1.0]]).reshape(1, 2, 1, 2)
    correlation = PositionCorrelation(within, within / 2, num_images=4)
    assert correlation.summary() == dict(
        num_images=4,
        within=dict(same_place=1.0, other_places=0.4),
        across=dict(same_place=0.5, other_places=0.2),
    )
