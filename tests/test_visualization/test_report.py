"""Curves from MMEngine's logs, and the page."""

import json
from html.parser import HTMLParser

import pytest

from mmpospretrain.visualization import (
    Picture,
    Section,
    plot_curve,
    read_scalars,
    render_page,
)


def write_log(work_dir, run, *entries):
    folder = work_dir / run / 'vis_data'
    folder.mkdir(parents=True)
    lines = ''.join(json.dumps(entry) + '\n' for entry in entries)
    (folder / 'scalars.json').write_text(lines)


def test_read_scalars_of_a_resumed_run(tmp_path):
    write_log(
        tmp_path,
        '20260101_000000',
        {'loss': 3.0, 'epoch': 1, 'iter': 50, 'step': 50},
        {'position/top1': 4.5, 'step': 1},
        {'loss': 2.0, 'epoch': 2, 'iter': 100, 'step': 100},
    )
    write_log(
        tmp_path, '20260102_000000', {'loss': 1.5, 'epoch': 2, 'iter': 100, 'step': 100}
    )
    scalars = read_scalars(tmp_path)
    assert scalars['loss'] == {50: 3.0, 100: 1.5}
    assert scalars['position/top1'] == {1: 4.5}


def test_plot_curve():
    figure = plot_curve({'training': {50: 3.0, 100: 2.0}}, 'accuracy', ('chance', 2.8))
    curve, chance = figure.axes[0].lines
    assert curve.get_xydata().tolist() == [[50, 3.0], [100, 2.0]]
    assert set(chance.get_ydata()) == {2.8}
    assert figure.axes[0].get_ylabel() == 'accuracy'


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links = []
        self.text = ''
        self.attributes = set()

    def handle_starttag(self, tag, attributes):
        if tag in ('a', 'img'):
            self.attributes |= {name for name, _ in attributes}
        self.links += [value for name, value in attributes if name in ('href', 'src')]

    def handle_data(self, data):
        self.text += data


def test_page():
    evil = '<script>alert("&")</script>'
    page = render_page(
        title=evil,
        introduction=evil,
        verdict=f'12.3 % {evil}',
        outcome='worse',
        sections=[
            Section(
                title=evil,
                text='Text',
                pictures=[Picture('a b".png', evil, evil)],
                command=f"train.py --data '{evil}'",
                seconds=125.4,
            ),
            Section('Second', evil, [], 'eval.py', 59.7),
        ],
        facts={evil: evil},
    )
    assert '<script' not in page
    parser = Links()
    parser.feed(page)
    assert parser.links == ['a b".png', 'a b".png']  # nothing from outside
    for text in (f'12.3 % {evil}', "train.py --data '<script>", 'Second', 'eval.py'):
        assert text in parser.text
    assert 'took 2 min 5 s' in parser.text
    assert 'took 1 min 0 s' in parser.text


@pytest.mark.parametrize(
    'path', ['javascript:alert(1)', 'data:text/html,<b>', 'x" onerror="alert(1)']
)
def test_a_picture_is_a_file_beside_the_page(path):
    section = Section('T', 'T', [Picture(path, 'C', 'A')], 'C', 1)
    page = render_page('T', 'I', 'V', 'better', [section], {})
    parser = Links()
    parser.feed(page)
    assert parser.links == [path.replace(':', '%3A')] * 2
    assert parser.attributes == {'href', 'src', 'alt'}


@pytest.mark.parametrize('outcome', ['better', 'worse', 'unclear'])
def test_the_verdict_has_the_colour_of_the_outcome(outcome):
    page = render_page('T', 'I', 'V', outcome, [], {})
    assert f'<p class="verdict {outcome}">V</p>' in page
    # Green is the rule, which the others override.
    assert (f'.verdict.{outcome} {{ border-color' in page) == (outcome != 'better')
