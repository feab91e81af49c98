"""Pictures of attention and of alike places, map by map."""

import numpy as np
import pytest

from mmpospretrain.evaluation.attention import HeadStatistics, PositionCorrelation
from mmpospretrain.evaluation.attention_diversity import (
    AttentionDiversity,
    QueryAttention,
)
from mmpospretrain.visualization import (
    plot_attention_diversity,
    plot_position_correlation,
    plot_query_attention,
    plot_relative_maps,
)

LONG = 'mp3_vit-base-p16_8xb256-coslr-100e_in1k/epoch_100'

# Two layers of three heads on a grid of 2 x 3; head 10 l + h looks at 10 l + h.
ENTROPY = np.array([[1.5, 0.25, 1.0], [0.5, 0.75, 0.1]])
RELATIVE = np.arange(2)[:, None] * 10 + np.arange(3)  # (L, H)


def statistics(entropy=ENTROPY):
    relative = np.broadcast_to(RELATIVE[..., None, None], (2, 3, 3, 5))
    return HeadStatistics(entropy, np.zeros((2, 3)), relative, num_images=4)


def shown(figure):
    """Title and value of every map, row by row."""
    return [
        (axis.get_title().split('\n')[-1], int(axis.images[0].get_array()[0, 0]))
        for axis in figure.axes
    ]


def test_all_heads_by_entropy():
    figure = plot_relative_maps({'mine': statistics()})
    assert shown(figure) == [
        ('head 2: 0.25', 1),
        ('head 3: 0.10', 12),
        ('head 3: 1.00', 2),
        ('head 1: 0.50', 10),
        ('head 1: 1.50', 0),
        ('head 2: 0.75', 11),
    ]
    assert [axis.get_title().split('\n')[0] for axis in figure.axes[:2]] == [
        'layer 1',
        'layer 2',
    ]
    assert figure.axes[0].images[0].get_array().shape == (3, 5)
    (panel,) = figure.subfigs
    assert panel.get_suptitle() == 'mine\n4 images, entropy at most 1.79'


def test_each_model_by_its_own_entropy():
    models = {'mine': statistics(), 'other': statistics(ENTROPY[:, ::-1])}
    figure = plot_relative_maps(models, layers=[2])
    assert shown(figure) == [
        ('head 3: 0.10', 12),
        ('head 1: 0.50', 10),
        ('head 2: 0.75', 11),
        ('head 1: 0.10', 10),
        ('head 3: 0.50', 12),
        ('head 2: 0.75', 11),
    ]


def test_the_most_local_heads_of_the_first_model_in_all():
    models = {'mine': statistics(), 'other': statistics(ENTROPY[:, ::-1])}
    figure = plot_relative_maps(models, most_local=1)
    assert shown(figure) == [
        ('head 2: 0.25', 1),
        ('head 3: 0.10', 12),
        ('head 2: 0.25', 1),
        ('head 3: 0.50', 12),
    ]


def assert_no_overlaps(figure, artists, folder):
    """Axes, with what is written at them, and other artists lie apart, and inside."""
    figure.savefig(folder / 'picture.png')
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    boxes += [artist.get_window_extent() for artist in artists]
    for index, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not box.padded(-1).count_overlaps(boxes[index + 1 :])


def test_no_overlaps(tmp_path):
    """Long names are broken, and titles stay clear of the maps of others."""
    names = [LONG, 'short']
    figure = plot_relative_maps(dict.fromkeys(names, statistics()))
    titles = [panel._suptitle for panel in figure.subfigs]
    assert_no_overlaps(figure, titles, tmp_path)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(layers=[0]), 'mine has layers 1 to 2, got 0'),
        (dict(layers=[1, 3]), 'mine has layers 1 to 2, got 3'),
        (dict(most_local=0), 'mine has 3 heads a layer, got 0'),
        (dict(most_local=4), 'mine has 3 heads a layer, got 4'),
        (dict(most_local=1), r'of mine are \(2, 3\), of deep \(4, 3\)'),
    ],
)
def test_heads_that_there_are_not(options, message):
    deep = HeadStatistics(np.ones((4, 3)), None, np.ones((4, 3, 3, 5)), 4)
    with pytest.raises(ValueError, match=message):
        plot_relative_maps({'mine': statistics(), 'deep': deep}, **options)


def test_every_place_in_its_place():
    rng = np.random.default_rng(0)
    within, across = rng.uniform(-0.2, 0.6, (2, 2, 3, 2, 3))
    for row, col in np.ndindex(2, 3):
        within[row, col, row, col] = 1
    correlation = PositionCorrelation(within, across, num_images=4)
    figure = plot_position_correlation({'mine': correlation})
    titles = [axis.get_title() for axis in figure.axes[:2]]
    mean = correlation.summary()['within']['other_places']
    assert titles[0] == f'within images (mean {mean:.2f})'
    pictures = [axis.images[0] for axis in figure.axes[:2]]
    for picture, maps in zip(pictures, (within, across), strict=True):
        cells = picture.get_array()
        assert cells.shape == (2 * 3 - 1, 3 * 4 - 1)
        for row, col in np.ndindex(2, 3):
            tile = cells[3 * row :, 4 * col :][:2, :3]
            np.testing.assert_array_equal(tile, maps[row, col])
        assert np.ma.getmaskarray(np.ma.masked_invalid(cells))[2].all()
        # Of the places themselves the scale knows nothing.
        assert picture.norm.vmax < 0.6
    assert pictures[0].norm.vmin == pictures[1].norm.vmin


def diversity(layers):
    """Of two heads; NMI is a tenth of the layer, distance ten times it, on average."""
    number = np.arange(1, layers + 1)[:, None]
    return AttentionDiversity(
        nmi=number / 10 + [-0.05, 0.05],
        distance=number * 10.0 + [-5, 5],
        uniform_distance=75.4,
        image_size=(96, 128),
        num_images=4,
    )


def test_curves_of_models_of_any_depth(tmp_path):
    names = [LONG, 'short']
    models = dict(zip(names, (diversity(12), diversity(4)), strict=True))
    figure = plot_attention_diversity(models)
    left, right = figure.axes
    for axis, scale in ((left, 0.1), (right, 10)):
        for line, layers in zip(axis.lines[:2], (12, 4), strict=True):
            x, y = line.get_data()
            np.testing.assert_array_equal(x, range(1, layers + 1))
            np.testing.assert_allclose(y, scale * np.arange(1, layers + 1))
        assert axis.get_ylim()[0] == 0
        assert axis.get_ylim()[1] > 12 * scale
        assert axis.get_xlabel() == 'layer'
    assert right.get_ylabel() == 'mean distance, pixels of 128x96'
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [*names, 'all patches alike, 75 pixels']
    assert_no_overlaps(figure, [legend], tmp_path)


def test_titles_of_a_single_query(tmp_path):
    """They lie inside, also above one row of square maps."""
    found = QueryAttention(np.ones((1, 1, 6, 6)), [])
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    names = (LONG, 'two', 'three', 'four')
    figure = plot_query_attention(dict.fromkeys(names, found), [image], [(0, 0)])
    assert_no_overlaps(figure, [], tmp_path)


def test_query_by_query_and_model_by_model(tmp_path):
    """Two images, three queries each, two models of different grids."""
    images = [np.full((48, 64, 3), value, dtype=np.uint8) for value in (10, 200)]
    points = [(0, 0), (63, 47), (20.5, 8)]
    models = {
        name: QueryAttention(
            start + np.arange(6).reshape(2, 3, 1, 1) * np.ones((*grid,)), []
        )
        for name, start, grid in ((LONG, 100, (3, 4)), ('two', 200, (6, 8)))
    }
    figure = plot_query_attention(models, images, points)
    axes = np.array(figure.axes).reshape(6, 3)
    titles = [axis.get_title() for axis in axes[0]]
    assert [title.replace('\n', '') for title in titles] == ['query', LONG, 'two']
    assert_no_overlaps(figure, [], tmp_path)
    for row, (left, *maps) in enumerate(axes):
        image, query = divmod(row, 3)
        assert (left.images[0].get_array() == images[image]).all()
        (dot,) = left.lines
        np.testing.assert_array_equal(dot.get_xydata(), [points[query]])
        assert dot.get_color() == 'red'
        for axis, start, grid in zip(maps, (100, 200), ((3, 4), (6, 8)), strict=True):
            (picture,) = axis.images
            assert picture.get_array().shape == grid
            assert (picture.get_array() == start + row).all()
            assert picture.norm.vmin == 0
