"""The tables of ``model_zoo.md``, from the metafiles.

A table stands between ``<!-- zoo: DropPos -->`` and ``<!-- end -->``; what is around it
is written by hand, and kept.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from .fetch import is_url
from .metafile import config_path
from .registry import Entry, Result

PHOTOSHAPES = 'PhotoShapes'
BLOCK = re.compile(r'(<!-- zoo: (.+?) -->\n).*?(<!-- end -->)', re.DOTALL)
IN_URLS = '%/:?#@!$&*+,;=~'  # not to be quoted, and no end of a link
SHORT = {'Top 1 Accuracy': 'top-1', 'Position Accuracy': 'position accuracy'}
METHOD_COLUMNS = (
    'configuration',
    'pre-training',
    'reported by the paper',
    'measured by this project',
    'weights',
    'log',
)
PHOTOSHAPES_COLUMNS = (
    'pre-training',
    'task',
    'seeds',
    'metric',
    'measured by this project',
    'to compare with',
)


def update_tables(text: str, entries: Iterable[Entry]) -> str:
    """``model_zoo.md`` with its tables made anew.

    Raises:
        ValueError: If a block names no method, or a method has no block.
    """
    entries = list(entries)
    blocks = [name for _, name, _ in BLOCK.findall(text)]
    expected = {entry.method for entry in entries} | {PHOTOSHAPES}
    if set(blocks) != expected or len(blocks) != len(expected):
        raise ValueError(
            f'the tables of model_zoo.md are {blocks}; there must be one for each of '
            f'{sorted(expected)}: <!-- zoo: NAME --> and, below, <!-- end -->'
        )
    return BLOCK.sub(lambda m: f'{m[1]}{_table(m[2], entries)}{m[3]}', text)


def _table(name: str, entries: Sequence[Entry]) -> str:
    small = [e for e in entries if e.training.get('Training Data') == PHOTOSHAPES]
    if name == PHOTOSHAPES:
        rows = [row for entry in small for row in photoshapes_rows(entry)]
        return _markdown(PHOTOSHAPES_COLUMNS, rows)
    rows = [method_row(e) for e in entries if e.method == name and e not in small]
    return _markdown(METHOD_COLUMNS, rows)


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [
        '|' + ''.join(f' {cell} |' if cell else ' |' for cell in row)
        for row in (columns, *rows)
    ]
    lines.insert(1, '|' + '---|' * len(columns))
    return '\n'.join([*lines, ''])


def method_row(entry: Entry) -> list[str]:
    """A model beside what its paper reports and what was measured here."""
    epochs, data = map(entry.training.get, ('Epochs', 'Training Data'))
    return [
        _linked(entry),
        _text(f'{epochs} epochs of {data}' if epochs else data),
        '<br>'.join(_text(describe(result)) for result in entry.reported),
        '<br>'.join(_text(describe(result)) for result in entry.measured),
        _weights(entry),
        _link('log', entry.log) if entry.log else '',
    ]


def photoshapes_rows(entry: Entry) -> list[list[str]]:
    """A small model by task and metric; a row of blanks if nothing was measured."""
    rows = []
    for result in entry.measured:
        task = f'{result.task}: {result.setting}'
        baseline = result.baseline
        for metric, value in result.metrics.items():
            measured = _number(value, result.deviation.get(metric))
            compared = _number(
                baseline['Metrics'][metric], baseline.get('Deviation', {}).get(metric)
            )
            rows.append(
                [
                    '',
                    _text(task),
                    str(result.seeds or 1),
                    _text(SHORT.get(metric, metric)),
                    _text(measured),
                    _text(f'{baseline["Name"]}: {compared}'),
                ]
            )
            task = ''
    rows = rows or [[''] * len(PHOTOSHAPES_COLUMNS)]
    rows[0][0] = f'{_linked(entry)}, {_text(entry.training["Epochs"])} epochs'
    return rows


def _linked(entry: Entry) -> str:
    if entry.config is None:
        return f'`{entry.name}`'
    return f'[`{entry.name}`]({quote(config_path(entry.config))})'


def _weights(entry: Entry) -> str:
    links = [_link(entry.format, url) for url in entry.urls]
    if entry.by_hand:
        links = [_text(f'{entry.format}, by hand')]
    return ', '.join([*links, _text(entry.licence)]) if links and entry.licence else ''


def _link(text: Any, url: str) -> str:
    """A link to the web; an address of another kind is only shown."""
    if not is_url(url):
        return _text(f'{text}: {url}')
    return f'[{_text(text)}]({quote(url, safe=IN_URLS)})'


def _text(value: Any) -> str:
    """Of a metafile, on a page: no markup, in one line."""
    return re.sub(r'([\\`\[\]<>|])', r'\\\1', ' '.join(str(value).split()))


def describe(result: Result) -> str:
    """A result in a line: ``COCO, Mask R-CNN: 42.1 box AP, 37.9 mask AP (Tab. 6)``."""
    where = ', '.join(filter(None, (result.dataset, result.setting)))
    metrics = ', '.join(
        f'{_number(value, result.deviation.get(name))} {SHORT.get(name, name)}'
        for name, value in result.metrics.items()
    )
    return f'{where}: {metrics}' + (f' ({result.source})' if result.source else '')


def _number(value: float, deviation: float | None = None) -> str:
    return f'{value}' if deviation is None else f'{value} ± {deviation}'
