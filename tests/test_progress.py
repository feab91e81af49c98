"""Progress in a log file; the bars are rich's."""

import pytest

from mmpospretrain import progress


@pytest.mark.parametrize(
    ('seconds', 'title', 'lines'),
    [
        (0, 'reading', ['reading: 1 of 3', 'reading: 2 of 3', 'reading: 3 of 3']),
        (60, 'reading', []),
        (0, None, []),
    ],
)
def test_a_line_now_and_then(seconds, title, lines, monkeypatch, capsys):
    monkeypatch.setattr(progress, 'SECONDS', seconds)
    assert [*progress.track('abc', title)] == ['a', 'b', 'c']
    shown = capsys.readouterr()
    assert (shown.err.splitlines(), shown.out) == (lines, '')


def test_steps_without_a_length(monkeypatch, capsys):
    monkeypatch.setattr(progress, 'SECONDS', 0)
    assert [*progress.track(iter('ab'), 'drawing', 2)] == ['a', 'b']
    assert 'drawing: 2 of 2' in capsys.readouterr().err
