"""Grids and masks, against plain loops."""

import itertools
import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from mmpretrain.models.utils import build_2d_sincos_position_embedding

from mmpospretrain.models.positions import (
    gather_tokens,
    grid_coordinates,
    grid_distance,
    num_kept,
    random_mask,
    shuffle_ids,
    sincos_pos_embed,
    to_grid_size,
)

GRIDS = [(1, 1), (3, 5), (5, 3), (14, 14)]


def test_grid_size():
    assert to_grid_size(224, 16) == (14, 14)
    assert to_grid_size((48, 80), 16) == (3, 5)


@pytest.mark.parametrize(
    ('image_size', 'patch_size', 'message'),
    [
        (225, 16, 'does not divide the image of 225x225.*nearest.*224x224'),
        ((224, 230), 16, 'does not divide the image of 224x230.*224x224'),
        (224, 0, r'must lie in \[1, 224\].*got 0'),
        (8, 16, r'must lie in \[1, 8\].*got 16'),
    ],
)
def test_grid_size_errors(image_size, patch_size, message):
    with pytest.raises(ValueError, match=message):
        to_grid_size(image_size, patch_size)


@pytest.mark.parametrize('grid_size', GRIDS)
def test_coordinates_are_row_major(grid_size):
    expected = list(itertools.product(range(grid_size[0]), range(grid_size[1])))
    assert grid_coordinates(grid_size).tolist() == [
        list(map(float, e)) for e in expected
    ]


@pytest.mark.parametrize('grid_size', GRIDS)
@pytest.mark.parametrize('distance', ['euclidean', 'squared'])
def test_distance(grid_size, distance):
    places = list(itertools.product(range(grid_size[0]), range(grid_size[1])))
    expected = [[math.dist(a, b) for b in places] for a in places]
    if distance == 'squared':
        expected = np.square(expected)
    actual = grid_distance(grid_size, distance)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert (actual.diagonal() == 0).all()
    assert (actual == 0).sum() == len(places)


def test_distance_unknown():
    with pytest.raises(
        ValueError, match=r"\('euclidean', 'squared'\), got 'manhattan'"
    ):
        grid_distance((3, 5), 'manhattan')


@pytest.mark.parametrize('grid_size', GRIDS)
def test_sincos_against_loops(grid_size):
    dims = 16
    quarter = dims // 4
    expected = []
    for row, col in itertools.product(range(grid_size[0]), range(grid_size[1])):
        channels = []
        for coordinate in (row, col):
            angles = [coordinate / 10000 ** (k / quarter) for k in range(quarter)]
            channels += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        expected.append(channels)
    embedding = sincos_pos_embed(grid_size, dims, num_prefix_tokens=1)
    assert embedding.shape == (1, 1 + len(expected), dims)
    assert (embedding[:, 0] == 0).all()
    np.testing.assert_allclose(embedding[0, 1:], expected, atol=1e-5)


def test_sincos_against_mmpretrain():
    upstream = build_2d_sincos_position_embedding(14, 768, cls_token=True)
    assert torch.equal(sincos_pos_embed((14, 14), 768, 1), upstream)


def test_sincos_width():
    with pytest.raises(ValueError, match='divisible by 4, got 6'):
        sincos_pos_embed((2, 2), 6)


def test_num_kept_at_every_ratio():
    assert num_kept(196, 0.9) == 19
    assert num_kept(196, 0.75) == 49
    assert num_kept(10, 0.9) == 1  # with floats: int(0.9999999999999998) == 0
    for num in (1, 7, 36, 49, 64, 196, 256, 400):
        for percent in range(100):
            ratio = percent / 100
            exact = int(num * (1 - Decimal(percent) / 100))
            assert num_kept(num, ratio) == max(1, exact), (num, ratio)
            assert num_kept(num, ratio, minimum=0) == exact, (num, ratio)


@pytest.mark.parametrize('ratio', [-0.1, 1.1, float('nan')])
def test_num_kept_range(ratio):
    with pytest.raises(ValueError, match=r'ratio must lie in \[0, 1\], got'):
        num_kept(196, ratio)


def test_shuffle_ids():
    generator = torch.Generator().manual_seed(0)
    ids = shuffle_ids(1000, 6, generator)
    assert torch.equal(ids.sort(1).values, torch.arange(6).expand(1000, 6))
    # Every patch comes to every place about equally often: binomial, 5 sigma.
    counts = torch.nn.functional.one_hot(ids, 6).sum(0)
    assert (counts - 1000 / 6).abs().max() < 5 * math.sqrt(1000 * 1 / 6 * 5 / 6)
    assert torch.equal(ids, shuffle_ids(1000, 6, generator.manual_seed(0)))


@pytest.mark.parametrize('num_masked', [0, 1, 36, 49])
def test_random_mask(num_masked):
    mask = random_mask(500, 49, num_masked, torch.Generator().manual_seed(1))
    assert mask.dtype == torch.bool
    assert (mask.sum(1) == num_masked).all()
    share = num_masked / 49
    tolerance = 5 * math.sqrt(500 * share * (1 - share)) + 1e-9
    assert (mask.sum(0) - 500 * share).abs().max() <= tolerance


def test_gather_tokens():
    tokens = torch.randn(2, 6, 3)
    ids = torch.tensor([[5, 0], [2, 2]])
    expected = torch.stack([tokens[0, [5, 0]], tokens[1, [2, 2]]])
    assert torch.equal(gather_tokens(tokens, ids), expected)
