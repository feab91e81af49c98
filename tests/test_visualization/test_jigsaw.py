"""Puzzles, pixel by pixel."""

import numpy as np
import pytest
import torch

from mmpospretrain.evaluation.position_curve import PositionCurve
from mmpospretrain.models.selfsup.position_predictor import Reconstruction
from mmpospretrain.visualization import plot_jigsaws, plot_mix, plot_position_curve
from mmpospretrain.visualization.jigsaw import (
    BLANK,
    GREEN,
    cut_patches,
    draw_context,
    draw_input,
    draw_solution,
    lay_patches,
    mix_patches,
    outline_patches,
)

GRID = 2, 3


def constant(values, side=2):
    """A picture of constant patches; channels differ by 1."""
    values = np.kron(values, np.ones((side, side)))
    return np.stack([values, values + 1, values + 2], axis=-1).astype(np.uint8)


IMAGE = constant([[0, 10, 20], [30, 40, 50]])
PATCHES = cut_patches(IMAGE, 2)
# Context: 4 and 1. Patches 4, 0 and 5 go to place 2, 1 to 0, 3 to 3, 2 to 2 as well.
RECONSTRUCTION = Reconstruction(
    ids=torch.tensor([4, 1, 0, 5, 3, 2]),
    dropped=torch.ones(6, dtype=torch.bool),
    context=torch.tensor([True, True, False, False, False, False]),
    predicted=torch.tensor([2, 0, 2, 2, 3, 2]),
)


def blank(picture, places):
    """The picture with some of its places, (row, column), blank."""
    picture = picture.copy()
    for row, column in places:
        picture[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = BLANK
    return picture


def test_cut_and_lay():
    image = np.random.default_rng(0).integers(0, 256, (6, 12, 3), dtype=np.uint8)
    patches = cut_patches(image, 3)
    assert patches.shape == (8, 3, 3, 3)
    for place, patch in enumerate(patches):
        top, left = place // 4 * 3, place % 4 * 3
        np.testing.assert_array_equal(patch, image[top : top + 3, left : left + 3])
    np.testing.assert_array_equal(lay_patches(patches, np.arange(8), (2, 4)), image)


def test_draw_context():
    expected = blank(IMAGE, [(0, 0), (0, 2), (1, 0), (1, 2)])
    picture = draw_context(PATCHES, RECONSTRUCTION, GRID)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


def test_draw_solution():
    average = (40 + 0 + 50 + 20) / 4  # 27.5, to the even neighbour
    expected = constant([[10, 0, round(average)], [30, 0, 0]])
    expected[..., 1:][:2, 4:] = round(average + 1), round(average + 2)
    expected = blank(expected, [(0, 1), (1, 1), (1, 2)])
    picture = draw_solution(PATCHES, RECONSTRUCTION, GRID)
    np.testing.assert_array_equal(picture, expected)


def test_draw_input():
    patches = cut_patches(constant([[0, 10, 20], [30, 40, 50]], side=4), 4)
    order = np.array([1, 3, 5, 0, 2, 4])
    expected = constant([[10, 30, 50], [0, 20, 40]], side=4)
    for top, left in ((0, 0), (4, 8)):  # patches 1 and 4 are context
        for i in range(4):
            for j in range(4):
                if i in (0, 3) or j in (0, 3):
                    expected[top + i, left + j] = GREEN
    picture = draw_input(patches, RECONSTRUCTION, order, GRID)
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize(('side', 'width'), [(4, 1), (16, 1), (32, 2)])
def test_width_of_outlines(side, width):
    patches = np.zeros((2, side, side, 3), dtype=np.uint8)
    first, second = outline_patches(patches, np.array([False, True]))
    assert not first.any()
    assert not patches.any()  # the originals stay
    green = (second == GREEN).all(-1)
    assert green.sum() == side**2 - (side - 2 * width) ** 2


def test_plot_jigsaws():
    ratios, orders = (0.0, 0.5), np.array([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5]])
    results = [[RECONSTRUCTION] * 2] * 2
    figure = plot_jigsaws([IMAGE, 2 * IMAGE], results, ratios, 2, orders)
    for subfigure, factor, order in zip(figure.subfigs, (1, 2), orders, strict=True):
        axes = np.reshape(subfigure.axes, (3, 2))
        assert [axis.get_title() for axis in axes[0]] == ['η = 0', 'η = 0.5']
        labels = [axis.get_ylabel() for axis in axes[:, 0]]
        assert labels == ['context', 'input', 'reconstruction']
        assert axes[2, 1].get_xlabel() == '2 of 6 in place'
        patches = factor * PATCHES
        expected = [
            draw_context(patches, RECONSTRUCTION, GRID),
            draw_input(patches, RECONSTRUCTION, order, GRID),
            draw_solution(patches, RECONSTRUCTION, GRID),
        ]
        for axis, picture in zip(axes[:, 1], expected, strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), picture)


@pytest.mark.parametrize('count', [1, 3])
def test_blocks_side_by_side(count, tmp_path):
    results = [[RECONSTRUCTION]] * count
    orders = np.tile(np.arange(6), (count, 1))
    figure = plot_jigsaws([IMAGE] * count, results, (0.5,), 2, orders)
    assert sum(bool(subfigure.axes) for subfigure in figure.subfigs) == count
    figure.savefig(tmp_path / 'puzzle.png')


def test_mix_keeps_all_patches():
    order = np.random.default_rng(0).permutation(12)
    both = np.stack([PATCHES, 100 + PATCHES])
    sets = mix_patches(both, order)
    assert sets.shape == both.shape
    assert sorted(sets[:, :, 0, 0, 0].flat) == sorted(both[:, :, 0, 0, 0].flat)
    for k in range(12):  # the k-th of all is the order's k-th
        image, patch = divmod(int(order[k]), 6)
        np.testing.assert_array_equal(sets[k // 6, k % 6], both[image, patch])
    tokens = torch.from_numpy(both[:, :, 0, 0])  # (2, N, 3)
    np.testing.assert_array_equal(mix_patches(tokens, order), sets[:, :, 0, 0])


def test_plot_mix(tmp_path):
    images = [IMAGE, 2 * IMAGE]
    sets = np.stack([3 * PATCHES, 4 * PATCHES])
    other = RECONSTRUCTION._replace(predicted=RECONSTRUCTION.ids)
    results = [[RECONSTRUCTION, other], [other, RECONSTRUCTION]]
    figure = plot_mix(images, sets, results, (0.25, 0.75))
    top, bottom = figure.axes[:6], figure.axes[6:]
    assert [axis.get_title() for axis in top] == [
        *('original 1', 'original 2'),
        *('input 1', 'reconstruction 1', 'input 2', 'reconstruction 2'),
    ]
    assert [row[k].get_ylabel() for row, k in ((top, 2), (bottom, 0))] == [
        'η = 0.25',
        'η = 0.75',
    ]
    np.testing.assert_array_equal(top[1].images[0].get_array(), images[1])
    order = np.arange(6)
    for row, case in ((top[2:], 0), (bottom, 1)):
        expected = []
        for patches, result in zip(sets, results, strict=True):
            expected.append(draw_input(patches, result[case], order, GRID))
            expected.append(draw_solution(patches, result[case], GRID))
        for axis, picture in zip(row, expected, strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), picture)
    figure.savefig(tmp_path / 'mix.png')


def test_plot_position_curve(tmp_path):
    curve = PositionCurve(
        accuracy=dict(all={0.0: 9.0, 0.5: 7.0}, context={0.0: 9.0}, masked={}),
        mask_ratios=(0.0, 0.5),
        chance=2.78,
        num_images=4,
    )
    figure = plot_position_curve(curve)
    (axis,) = figure.axes
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names[0] == 'all'
    assert names[-1] == 'chance, 2.8 %'
    assert axis.lines[0].get_xydata().tolist() == [[0, 9], [0.5, 7]]
    assert axis.get_ylim()[0] == 0
    figure.savefig(tmp_path / 'curve.png')
