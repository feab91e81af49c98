"""Figures 5 and 6 of StoP, whose maps are worked out once more in NumPy."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

from mmpospretrain.visualization import (
    find_images,
    plot_position_similarity,
    plot_predicted_tokens,
    predict_token,
)

ROWS, COLS = 6, 8


@pytest.fixture
def model():
    """StoP whose student, teacher and predictor are far from one another."""
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
    model = MODELS.build(
        dict(
            type='mmpospretrain.StoP',
            min_context=4,
            backbone=dict(
                type='mmpospretrain.PositionViT',
                arch=arch,
                img_size=(96, 128),
                with_cls_token=False,
            ),
            neck=dict(
                type='mmpospretrain.StochasticPredictor',
                embed_dims=24,
                depth=1,
                num_heads=3,
                sigma=0.25,
            ),
        )
    )
    for parameter in model.parameters():
        if parameter is not model.neck.pos_embed:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def cosines(queries, others):
    """(S, N), entry by entry."""
    return np.array(
        [[q @ o / np.sqrt((q @ q) * (o @ o)) for o in others] for q in queries]
    )


def array(tensor):
    return tensor.detach().double().numpy()


def maps_of(figure, columns):
    """What is drawn, a list of (rows, cols) for each row of the picture."""
    axes = [axis for axis in figure.axes if axis.images]  # without the colour bar
    maps = [np.array(axis.images[-1].get_array()) for axis in axes]
    return [maps[i : i + columns] for i in range(0, len(maps), columns)]


def test_position_similarity(model):
    """ψ, one draw of ψ + A·n, and the mean over all draws, beside every ψ."""
    places, draws = [9, 38], 16
    positions = array(model.neck.pos_embed[0])
    matrix = array(model.neck.embed.weight)
    torch.manual_seed(3)
    expected = []
    for place in places:
        noise = array(torch.randn(draws, 32)) * 0.5  # variance .25
        drawn = cosines(positions[place] + noise @ matrix.T, positions)
        sure = cosines(positions[[place]], positions)[0]
        expected.append([sure, drawn[0], drawn.mean(0)])
    torch.manual_seed(3)
    figure = plot_position_similarity(model, places, (ROWS, COLS), average=draws)
    assert not model.neck.training
    assert figure.axes[2].get_title() == f'mean of {draws} draws'
    for ours, theirs in zip(maps_of(figure, 3), expected, strict=True):
        for drawn, values in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(drawn, values.reshape(ROWS, COLS), atol=1e-5)


def test_predicted_token(model):
    """Of the middle of a block: its prediction, and its true features, beside all."""
    inputs = torch.randn(1, 3, 96, 128)
    image = np.zeros((96, 128, 3), np.uint8)
    generator = torch.Generator().manual_seed(4)
    token = predict_token(model, inputs, image, generator, temperature=0.1)

    with torch.no_grad():
        ids = model.draw_masks(1, torch.Generator().manual_seed(4))
        context = model.encode_context(inputs, ids.context)
        predictions = array(model.neck(context, ids)[0, 0])  # (K, D)
        features = array(model.encode_target(inputs)[0])  # (N, D)
    block = ids.targets[0, 0].tolist()
    rows, cols = ids.target_size
    assert min(rows, cols) > 1
    top, left = divmod(block[0], COLS)
    place = (top + rows // 2) * COLS + left + cols // 2
    assert token.block == block
    assert token.place == place
    queries = predictions[block.index(place)], features[place]
    weights = np.exp(cosines(queries, features) / 0.1)
    weights /= weights.sum(1, keepdims=True)
    maps = weights.reshape(2, ROWS, COLS)
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    np.testing.assert_allclose(token.similarity, maps[0], atol=1e-5)
    np.testing.assert_allclose(token.target, maps[1], atol=1e-5)

    (drawn,) = maps_of(plot_predicted_tokens([token], 16), 4)
    np.testing.assert_allclose(drawn[2:], maps, atol=1e-5)
    visible = np.ones((96, 128), bool)
    for patch in block:
        top, left = (16 * side for side in divmod(patch, COLS))
        visible[top : top + 16, left : left + 16] = False
    np.testing.assert_array_equal(drawn[1][..., 0] == 0, visible)


@pytest.mark.parametrize('number', [0, -2])
def test_no_image_is_no_picture(tmp_path, number):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=f'--num-images must be .* 1, got {number}'):
        find_images([tmp_path], number)
    assert find_images([tmp_path], 1) == [tmp_path / 'a.png']
