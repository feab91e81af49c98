"""NMI, distance and queries of attention against plain loops in float64."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.models import DeiT3, DistilledVisionTransformer, VisionTransformer

from mmpospretrain.evaluation.attention import attention_map, encode_measured
from mmpospretrain.evaluation.attention_diversity import (
    AttentionDiversity,
    QueryAttention,
    attention_diversity,
    measure_diversity,
    patches_at,
    query_attention,
)
from mmpospretrain.models import FieldViT, PositionViT

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
GRID = ROWS, COLS = 2, 3
NUM = ROWS * COLS
IMAGES = torch.randn(5, 3, 32, 48, generator=torch.Generator().manual_seed(0))

BACKBONES = {
    'learned': lambda: PositionViT(arch=ARCH, img_size=96, positions='learned'),
    'relative': lambda: PositionViT(arch=ARCH, img_size=96, positions='relative'),
    'none': lambda: PositionViT(
        arch=ARCH, img_size=96, positions='none', with_cls_token=False
    ),
    'field': lambda: FieldViT(arch=ARCH, img_size=96, field_size=5),
    'registers': lambda: PositionViT(arch=ARCH, img_size=96, num_registers=2),
    'MMPretrain': lambda: VisionTransformer(ARCH, img_size=96, patch_size=16),
    'DeiT, distilled': lambda: DistilledVisionTransformer(
        ARCH, img_size=96, patch_size=16
    ),
    'DeiT III': lambda: DeiT3(ARCH, img_size=96, patch_size=16),
}


@pytest.fixture(params=BACKBONES)
def backbone(request):
    """Of another grid than the images, with weights that all matter."""
    torch.manual_seed(0)
    backbone = BACKBONES[request.param]()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return backbone


def keep(attention, grid_size):
    assert grid_size == GRID
    return attention


def loops(attention):
    """NMI and mean distance in patches of one map (T, T), prefix tokens included."""
    maps = np.array(attention[-NUM:, -NUM:], dtype=np.float64)
    for row in maps:
        row /= row.sum()
    joint = maps / NUM  # p(q, k)
    information, keys_entropy, distance = 0, 0, 0
    for k in range(NUM):
        share = sum(joint[q, k] for q in range(NUM))  # p(k)
        keys_entropy -= share * math.log(share) if share else 0
        for q in range(NUM):
            if joint[q, k]:
                information += joint[q, k] * math.log(joint[q, k] * NUM / share)
            down, right = k // COLS - q // COLS, k % COLS - q % COLS
            distance += joint[q, k] * math.hypot(down, right)
    scale = math.sqrt(math.log(NUM) * keys_entropy)
    return information / scale if scale else 0, distance


def measured(maps):
    """NMI and distance of one head that looks so at one image."""
    found = measure_diversity(
        torch.as_tensor(maps, dtype=torch.float32)[None, None], GRID
    )
    return found['nmi'].item(), found['distance'].item()


def test_diversity_by_loops(backbone):
    """The mean over images of what each of them has: of NMI that matters."""
    _, maps = encode_measured(backbone, IMAGES, keep)
    assert len(maps) == 3
    found = attention_diversity(backbone, IMAGES.split(2))
    assert found.num_images == 5
    assert found.image_size == (32, 48)
    for layer, head in np.ndindex(3, 2):
        pairs = [loops(image[head].numpy()) for image in maps[layer]]
        nmi, distance = np.mean(pairs, axis=0)
        assert nmi > 0.001
        np.testing.assert_allclose(found.nmi[layer, head], nmi, rtol=1e-3)
        np.testing.assert_allclose(found.distance[layer, head], 16 * distance, 1e-5)


def test_maps_are_of_what_attention_gets():
    """DeiT III calls the norm before it once more, for the MLP."""
    torch.manual_seed(0)
    backbone = BACKBONES['DeiT III']()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    given = []
    for layer in backbone.layers:
        layer.attn.register_forward_pre_hook(lambda attn, args: given.append(args[0]))
    _, maps = encode_measured(backbone, IMAGES, keep)
    for layer, found, tokens in zip(backbone.layers, maps, given, strict=True):
        torch.testing.assert_close(found, attention_map(layer.attn, tokens))


def test_every_backbone_is_encoded_as_by_itself(backbone):
    backbone.eval()
    tokens, _ = encode_measured(backbone, IMAGES)
    backbone.out_type = 'raw'
    expected = backbone(IMAGES)[-1][:, backbone.num_extra_tokens :]
    torch.testing.assert_close(tokens, expected)


@pytest.mark.parametrize('prefix', [0, 1, 2])
def test_uniform_attention(prefix):
    """All look at all alike: no information, and the mean of all distances."""
    size = prefix + NUM
    nmi, distance = measured(np.full((size, size), 1 / size))
    assert nmi == pytest.approx(0, abs=1e-6)
    pairs = [
        math.hypot(i // COLS - j // COLS, i % COLS - j % COLS)
        for i in range(NUM)
        for j in range(NUM)
    ]
    assert distance == pytest.approx(sum(pairs) / NUM**2)


def test_attention_to_oneself():
    assert measured(np.eye(NUM)) == pytest.approx((1, 0))


def test_attention_to_the_opposite():
    """As different as to oneself, but far: three pairs of patches, by hand."""
    nmi, distance = measured(np.fliplr(np.eye(NUM)).copy())
    assert nmi == pytest.approx(1)
    assert distance == pytest.approx((2 * math.sqrt(5) + 1) / 3)


def test_all_look_at_one():
    """H(k) = 0: nothing is divided by it. The corner is 0, 1, 2, 1, √2, √5 away."""
    maps = np.zeros((NUM, NUM))
    maps[:, 0] = 1
    nmi, distance = measured(maps)
    assert nmi == 0
    assert distance == pytest.approx((4 + math.sqrt(2) + math.sqrt(5)) / 6)


def test_two_halves():
    """Each row of patches looks at itself: one of log2(6) bits is known, by hand."""
    maps = np.kron(np.eye(ROWS), np.full((COLS, COLS), 1 / COLS))
    nmi, distance = measured(maps)
    assert nmi == pytest.approx(1 / math.log2(6))
    assert distance == pytest.approx((0 + 1 + 2 + 1 + 0 + 1 + 2 + 1 + 0) / 9)


@pytest.mark.parametrize('share', [0.0, 0.5, 0.999])
def test_what_cls_gets_is_left_out(share):
    """However much it is, and whatever it does itself."""
    maps = np.zeros((1 + NUM, 1 + NUM))
    maps[1:, 1:] = (1 - share) * np.eye(NUM)
    maps[1:, 0] = share
    maps[0] = 1 / (1 + NUM)
    assert measured(maps) == pytest.approx((1, 0), abs=1e-5)


def test_averages_are_of_images_and_heads():
    """Not of maps: two images that are all order, in two ways, are no disorder."""
    own, opposite = torch.eye(NUM), torch.eye(NUM).flip(0)
    found = measure_diversity(torch.stack((own, opposite))[:, None], GRID)
    assert found['nmi'] / 2 == pytest.approx(1)


def test_summary_averages_heads():
    diversity = AttentionDiversity(
        nmi=np.array([[0.1, 0.3], [0.5, 0.5]]),
        distance=np.array([[10.0, 30.0], [5.0, 6.0]]),
        uniform_distance=22.5,
        image_size=(32, 48),
        num_images=5,
    )
    assert diversity.summary() == dict(
        num_images=5,
        image_size=[32, 48],
        nmi=[pytest.approx(0.2), 0.5],
        distance=[20.0, 5.5],
        uniform_distance=22.5,
    )


def test_distances_are_in_pixels():
    """Whatever the patch: nothing to choose by is attention to all alike."""
    for patch_size, grid_size in ((8, (4, 6)), (16, GRID)):
        backbone = PositionViT(arch=ARCH, img_size=(32, 48), patch_size=patch_size)
        for layer in backbone.layers:
            torch.nn.init.zeros_(layer.attn.qkv.weight)
            torch.nn.init.zeros_(layer.attn.qkv.bias)
        found = attention_diversity(backbone, [IMAGES])
        places = [patch_size * np.array(x) for x in np.ndindex(grid_size)]
        mean = np.mean([np.linalg.norm(a - b) for a in places for b in places])
        np.testing.assert_allclose(found.distance, mean, rtol=1e-5)
        assert found.uniform_distance == pytest.approx(mean)
        np.testing.assert_allclose(found.nmi, 0, atol=1e-6)


def test_queries_are_rows_of_the_last_layer(backbone):
    points = [(0, 0), (47, 16), (20.5, 15.9)]
    patches = [(0, 0), (1, 2), (0, 1)]
    _, maps = encode_measured(backbone, IMAGES, keep)
    found = query_attention(backbone, IMAGES.split(2), points)
    assert found.query.shape == (5, 3, ROWS, COLS)
    assert found.patches == patches
    prefix = maps[-1].shape[-1] - NUM
    for image in range(5):
        for query, (row, col) in enumerate(patches):
            heads = maps[-1][image, :, prefix + row * COLS + col, prefix:]
            expected = heads.double().mean(0).view(GRID)
            np.testing.assert_allclose(found.query[image, query], expected, rtol=1e-5)
    assert (found.query.sum((2, 3)) < 1 - 1e-4).all() == (prefix > 0)


def test_query_finds_what_it_looks_for():
    """A bias towards what lies right below, in the last layer alone."""
    backbone = PositionViT(arch=ARCH, img_size=(48, 64), positions='relative')
    bias = backbone.layers[-1].attn.rel_pos_bias
    with torch.no_grad():  # the table goes by query minus key
        bias.table[:, 3 - 1 - 1, 4 - 1 - 1] = 20
    found = query_attention(backbone, [torch.randn(1, 3, 48, 64)], [(17, 5)])
    brightest = np.unravel_index(found.query[0, 0].argmax(), (3, 4))
    assert found.patches == [(0, 1)]
    assert brightest == (1, 2)


def test_summary_of_queries():
    attention = QueryAttention(np.zeros((4, 2, 3, 5)), [(0, 1), (2, 4)])
    assert attention.summary() == dict(grid_size=[3, 5], patches=[[0, 1], [2, 4]])


@pytest.mark.parametrize('point', [(-1, 0), (48, 0), (0, -0.5), (0, 32)])
def test_points_outside(point):
    with pytest.raises(ValueError, match=r'image of 48x32 pixels: x goes .* to 47'):
        patches_at([(0, 0), point], (32, 48), 16)


def test_images_of_another_size():
    backbone = BACKBONES['learned']()
    for measure in (attention_diversity, lambda *x: query_attention(*x, [(0, 0)])):
        with pytest.raises(ValueError, match=r'grids of \(3, 3\) and of \(2, 3\)'):
            measure(backbone, [torch.zeros(1, 3, 48, 48), IMAGES])
