"""Names that Matplotlib reads as mathematics, or not at all."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from mmpretrain.structures import DataSample

from mmpospretrain.evaluation.attention import HeadStatistics, PositionCorrelation
from mmpospretrain.evaluation.attention_diversity import (
    AttentionDiversity,
    QueryAttention,
)
from mmpospretrain.visualization import (
    plot_attention_diversity,
    plot_curve,
    plot_position_correlation,
    plot_predictions,
    plot_query_attention,
    plot_relative_maps,
    plot_seeds,
    render_page,
)
from mmpospretrain.visualization.wording import plain

NAMES = ['$x_{$', r'$\frac$', 'US$ 5 and $ 6', '_private', 'caf\udce9', r'a\$b$c$']


def draw(figure):
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize('name', NAMES)
def test_names_are_drawn_as_they_are_written(name):
    """The text takes as much room as one in which nothing is read."""
    figure = Figure()
    written = name.encode(errors='backslashreplace').decode()
    texts = [figure.text(0, 0, plain(name))]
    texts.append(figure.text(0, 0, written, parse_math=False))
    draw(figure)
    widths = [text.get_window_extent().width for text in texts]
    assert widths[0] == pytest.approx(widths[1], abs=1.5)


@pytest.mark.parametrize('name', NAMES)
def test_pictures_of_such_names(name):
    series = {0: 1.0, 1: 2.0}
    figures = [
        plot_curve({name: series, 'b': series}, name, (name, 1), name),
        plot_seeds({name: [series], 'b': [series]}, name, name),
    ]
    sample = DataSample().set_gt_label(0).set_pred_label(0)
    image = np.zeros((8, 8, 3), np.uint8)
    figures.append(plot_predictions([image], {name: [sample]}, [name, 'b']))
    for figure in figures:
        draw(figure)
    for figure, number in zip(figures[:2], (3, 2), strict=True):
        assert len(figure.axes[0].get_legend().get_texts()) == number
    assert len(figures[2].legends[0].get_texts()) == 2


@pytest.mark.parametrize('name', NAMES)
def test_models_of_such_names(name):
    maps = np.zeros((1, 1, 3, 3))
    heads = HeadStatistics(np.ones((1, 1)), np.zeros((1, 1)), maps, num_images=4)
    places = PositionCorrelation(*np.ones((2, 2, 2, 2, 2)), num_images=4)
    layer = np.ones((1, 2))
    diversity = AttentionDiversity(layer, layer, 75, (96, 128), num_images=4)
    query = QueryAttention(np.ones((1, 1, 6, 6)), [])
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    draw(plot_relative_maps({name: heads}))
    draw(plot_position_correlation({name: places}))
    draw(plot_query_attention({name: query}, [image], [(0, 0)]))
    figure = plot_attention_diversity({name: diversity})
    draw(figure)
    assert len(figure.legends[0].get_texts()) == 2


@pytest.mark.parametrize('name', NAMES)
def test_a_page_can_be_written(name):
    page = render_page(name, name, name, True, [], {name: name})
    assert page.encode()
