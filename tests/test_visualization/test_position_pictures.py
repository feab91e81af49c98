"""Pictures of positions, pixel by pixel."""

import numpy as np
import torch

from mmpospretrain.evaluation.position_table import PositionTable
from mmpospretrain.models.selfsup.position_predictor import Reconstruction
from mmpospretrain.visualization import (
    draw_reconstruction,
    plot_position_table,
    plot_reconstructions,
)

# 2 x 3 patches of 2 x 2 pixels; patch k holds the values 10 k + 1 … 10 k + 3.
IMAGE = np.stack(
    [np.kron([[0, 10, 20], [30, 40, 50]], np.ones((2, 2))) + c for c in (1, 2, 3)], -1
).astype(np.uint8)
# Visible: 4 and 0, dropped and right; 2, dropped and wrong; 5, an anchor that the model
# gets wrong all the same. Masked: 1 and 3.
RECONSTRUCTION = Reconstruction(
    ids=torch.tensor([4, 0, 2, 5]),
    dropped=torch.tensor([True, True, True, False]),
    context=torch.tensor([True, True, True, True]),
    predicted=torch.tensor([4, 0, 5, 1]),
)


def test_draw_reconstruction():
    picture = draw_reconstruction(IMAGE, RECONSTRUCTION, patch_size=2)
    red = [
        [1, 1, 0, 0, 255, 255],
        [1, 1, 0, 0, 255, 255],
        [0, 0, 41, 41, 51, 51],
        [0, 0, 41, 41, 51, 51],
    ]
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[..., 0], red)
    shown = ~np.isin(red, (0, 255))
    np.testing.assert_array_equal(picture[shown], IMAGE[shown])


def test_plot_reconstructions():
    figure = plot_reconstructions(
        [IMAGE, IMAGE], [[RECONSTRUCTION] * 2] * 2, (0.0, 0.5), patch_size=2
    )
    axes = figure.axes
    assert [axis.get_title() for axis in axes[:3]] == ['γ = 0', 'γ = 0.5', 'original']
    assert axes[0].get_xlabel() == '2 of 3 in place'
    expected = draw_reconstruction(IMAGE, RECONSTRUCTION, 2)
    np.testing.assert_array_equal(axes[4].images[0].get_array(), expected)
    np.testing.assert_array_equal(axes[5].images[0].get_array(), IMAGE)


def test_plot_position_table(tmp_path):
    table = PositionTable(
        accuracy=np.array([[90.04, 80.0], [7.0, 3.0]]),
        mask_ratios=(0.0, 0.5),
        pos_mask_ratios=(0.25, 0.95),
        chance=2.78,
        num_images=4,
    )
    figure = plot_position_table(table)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ['90.0', '80.0', '7.0', '3.0', '85.0', '5.0', 'avg.']
    assert '45.0 on average, chance 2.8' in figure.axes[0].get_title()
    figure.savefig(tmp_path / 'table.png')
    assert (tmp_path / 'table.png').stat().st_size > 1000
