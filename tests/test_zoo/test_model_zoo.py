"""model_zoo.md, and the commands of ``python -m mmpospretrain.zoo``."""

import hashlib
import re
import signal
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import requests
import torch

from mmpospretrain.zoo import __main__ as zoo, get_model, verify
from mmpospretrain.zoo.registry import Entry, Result, entries, find
from mmpospretrain.zoo.table import (
    describe,
    method_row,
    photoshapes_rows,
    update_tables,
)

ROOT = Path(__file__).parents[2]
TINY = 'droppos_vit-tiny-p16_photoshapes'
BLANKS = dict.fromkeys(
    ('config', 'filename', 'sha256', 'format', 'licence', 'by_hand', 'log')
)
PLAIN = dict(urls=(), measured=(), reported=(), training={}, **BLANKS)


@pytest.fixture
def document() -> str:
    return (ROOT / 'model_zoo.md').read_text(encoding='utf-8')


def test_model_zoo_is_up_to_date(document):
    """If not: python -m mmpospretrain.zoo table --write."""
    assert update_tables(document, entries().values()) == document


def test_what_is_written_by_hand_stays(document):
    changed = document.replace('| 14.52 |', '| 15.52 |').replace('chance', 'luck')
    mended = update_tables(f'{changed}\nMine.\n', entries().values())
    assert mended == f'{document}\nMine.\n'


@pytest.mark.parametrize(
    ('old', 'new'), [('zoo: MP3', 'zoo: MP4'), ('zoo: MP3', 'no: MP3')]
)
def test_every_method_has_its_table(document, old, new):
    with pytest.raises(ValueError, match='one for each of'):
        update_tables(document.replace(old, new), entries().values())


def test_a_row_of_a_method():
    entry = Entry(
        name='a_vit',
        method='A',
        **{
            **PLAIN,
            'config': Path('/somewhere/configs/a/a_vit.py'),
            'urls': ('https://x/a', 'https://y/a'),
            'format': 'mmpospretrain',
            'licence': 'Apache-2.0',
            'log': 'https://x/a.log',
            'training': {'Epochs': 3, 'Training Data': 'B'},
            'reported': (
                Result('T', 'COCO', {'box AP': 4.0, 'mask AP': 3.5}, 'R', 'Tab. 2'),
                Result('T', 'B', {'Top 1 Accuracy': 50.0}, source='Fig. 1'),
            ),
            'measured': (
                Result(
                    'T',
                    'ADE20K',
                    {'mIoU': 2.0},
                    seeds=3,
                    deviation={'mIoU': 0.5},
                ),
            ),
        },
    )
    assert method_row(entry) == [
        '[`a_vit`](configs/a/a_vit.py)',
        '3 epochs of B',
        'COCO, R: 4.0 box AP, 3.5 mask AP (Tab. 2)<br>B: 50.0 top-1 (Fig. 1)',
        'ADE20K: 2.0 ± 0.5 mIoU',
        '[mmpospretrain](https://x/a), [mmpospretrain](https://y/a), Apache-2.0',
        '[log](https://x/a.log)',
    ]
    blank = Entry(name='b', method='A', **{**PLAIN, 'training': {'Training Data': 'B'}})
    assert method_row(blank) == ['`b`', 'B', '', '', '', '']


@pytest.mark.parametrize(
    'evil',
    ['<script>alert(1)</script>', '[a](javascript:alert(1))', 'a | b', 'a\n| b |', '`'],
)
def test_texts_of_a_metafile_are_no_markup(evil):
    result = Result('T', evil, {evil: 1.0}, evil, evil)
    training = {'Epochs': evil, 'Training Data': evil}
    baseline = {'Name': evil, 'Metrics': {evil: 2}}
    entry = Entry(
        'a',
        'A',
        **{
            **PLAIN,
            'urls': ('javascript:alert(1)', 'https://x/a)<b>|"'),
            'format': evil,
            'licence': evil,
            'log': evil,
            'training': training,
            'reported': (result,),
            'measured': (replace(result, baseline=baseline),),
        },
    )
    cells = [*method_row(entry)[1:], *chain(*photoshapes_rows(entry))]
    links = ' '.join(cells).count('](https://x/a%29%3Cb%3E%7C%22)')
    assert links == 1
    for cell in cells:
        markup = re.sub(r'\\.|<br>|\]\(https://\S+\)', '', cell)
        assert not re.search(r'[<>|\n]|\]\(', markup), cell


def test_rows_of_photoshapes():
    detection = Result(
        'Detection',
        'PhotoShapes',
        {'box AP': 4.0, 'mask AP': 3.0},
        'short',
        seeds=2,
        deviation={'box AP': 0.5},
        baseline={'Name': 'scratch', 'Metrics': {'box AP': 1.0, 'mask AP': 0.5}},
    )
    training = {'Epochs': 3, 'Training Data': 'PhotoShapes'}
    entry = {**PLAIN, 'training': training}
    rows = photoshapes_rows(Entry('a', 'A', **{**entry, 'measured': (detection,)}))
    name, task = '`a`, 3 epochs', 'Detection: short'
    assert rows == [
        [name, task, '2', 'box AP', '4.0 ± 0.5', 'scratch: 1.0'],
        ['', '', '2', 'mask AP', '3.0', 'scratch: 0.5'],
    ]
    assert photoshapes_rows(Entry('a', 'A', **entry)) == [[name, '', '', '', '', '']]


def test_no_number_was_lost(document):
    """What was measured before the tables were generated, and its README has it."""
    grid = (ROOT / 'configs/droppos/README.md').read_text(encoding='utf-8')
    assert len(re.findall(r'\| \**\d+\.\d\d\**(?= \|)', grid)) == 20
    rows = [line for line in document.splitlines() if line.startswith('|')]
    for name, reference in (
        ('4.8 ± 1.0', '2.7 ± 1.4'),
        ('3.0 ± 0.6', '1.9 ± 1.1'),
        ('20.6 ± 0.1', '18.6 ± 0.2'),
        ('37.3 ± 1.3', '36.3 ± 0.7'),
        ('46.9', '45.0'),
        ('48.5', '45.0'),
        ('49.7', '46.2'),
        ('13.8 ± 2.3', '2.7 ± 1.4'),
        ('22.1 ± 0.7', '18.6 ± 0.2'),
        ('43.0 ± 1.8', '36.3 ± 0.7'),
    ):
        assert any(f'| {name} |' in row and f': {reference} |' in row for row in rows)


# --- commands


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(tmp_path))
    monkeypatch.delenv('MMPOSPRETRAIN_MIRROR', raising=False)
    return tmp_path


@pytest.fixture
def run(cache, monkeypatch, capsys):
    """Run a command; its exit code or error, and what it printed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv('COLUMNS', '200')
    handler = signal.getsignal(signal.SIGTERM)

    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['zoo', *args])
        try:
            code = zoo.main()
        except SystemExit as error:
            code = error.code
        return code, capsys.readouterr().out

    yield call
    signal.signal(signal.SIGTERM, handler)


def test_list(run, cache):
    (cache / 'droppos_vit-base-p16_3rdparty-800e_in1k.pth').touch()
    code, out = run('list', 'droppos_vit-*in1k')
    words = [re.findall(r'[\w.-]+(?: \w+)*', line) for line in out.splitlines()]
    by_name = {line[0]: line[1:] for line in words if line}
    assert code == 0
    assert max(map(len, out.splitlines())) < 80
    assert len(by_name) == 10  # a header, six of ours, three of the authors
    assert by_name['droppos_vit-base-p16_3rdparty-800e_in1k'][0] == 'fetched'
    assert by_name['droppos_vit-large-p16_3rdparty-800e_in1k'][0] == 'by hand'
    assert by_name['droppos_vit-base-p16_8xb512-coslr-200e_in1k'][0] == 'none'
    assert 'download' in run('list', 'mae')[1]
    assert run('list', 'xyz')[0] == "error: no model is called 'xyz'"


def test_info(run, cache):
    code, out = run('info', 'ijepa_vit-huge-p14_3rdparty-300e_in1k')
    assert code == 0
    for words in (
        'I-JEPA or StoP',
        'CC-BY-NC-4.0',
        'IN1K-vit.h.14-300e.pth.tar',
        '300',
    ):
        assert words in out
    out = run('info', TINY)[1]
    assert 'UperNet, 100 labelled images, 300 iterations: 20.6 ± 0.1 mIoU' in out
    assert 'reported' not in out
    assert run('info', 'droppos')[0].startswith("error: there is no model 'droppos'")


def test_info_is_printed_whole_in_a_narrow_terminal(run, cache, monkeypatch):
    """URLs, paths and hashes are there to be copied."""
    monkeypatch.setenv('COLUMNS', '40')
    by_hand = 'droppos_vit-base-p16_3rdparty-200e_in1k'
    out = run('info', by_hand)[1]
    assert re.search(rf'^file, not there yet +{cache / by_hand}\.pth$', out, re.M)
    (cache / f'{by_hand}.pth').touch()
    assert re.search(rf'^file +{cache / by_hand}\.pth$', run('info', by_hand)[1], re.M)

    entry = Entry(
        name='n' * 90,
        method='A',
        **{**PLAIN, 'urls': ('https://x/' + 'u' * 90, 'https://y'), 'sha256': 'a' * 64},
    )
    monkeypatch.setattr(zoo, 'find', lambda name: entry)
    assert run('info', entry.name)[1].splitlines() == [
        f'name     {entry.name}',
        'method   A',
        f'weights  {entry.urls[0]}',
        '         https://y',
        f'sha256   {entry.sha256}',
    ]


def test_verify_prints_names_whole_in_a_narrow_terminal(run, monkeypatch):
    monkeypatch.setenv('COLUMNS', '40')
    assert TINY in run('verify', '--offline', TINY)[1]


def test_download(run, cache):
    name = 'droppos_vit-large-p16_3rdparty-800e_in1k'
    assert 'By hand: the pre-trained ViT-L/16' in run('download', name)[0]
    assert run('download', TINY)[0].startswith(f'error: no weights of {TINY}')
    (cache / f'{name}.pth').write_bytes(b'weights')
    code, out = run('download', name)
    assert (code, out.splitlines()[-1]) == (0, f'{cache / name}.pth')


def test_table(run, document):
    assert run('table') == (0, document)


def test_verify_files(run, cache, monkeypatch):
    name = 'mae_vit-base-p16_3rdparty_in1k'
    path = cache / find(name).filename
    assert run('verify', '--offline', name)[0] == 0
    torch.save({'model': {'x': torch.ones(1)}}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    code, out = run('verify', '--offline', name)
    assert (code, f'sha256 {sha256[:8]}' in out) == (0, True)
    path.with_name(f'{path.name}.sha256').write_text(f'{"0" * 64}  {path.name}\n')
    code, out = run('verify', '--offline', name)
    assert (code, f'{path} has SHA-256 {sha256}, not 000' in out) == (1, True)
    path.with_name(f'{path.name}.sha256').unlink()
    path.write_bytes(b'<html>')
    assert 'is a web page' in run('verify', '--offline', name)[1]


def test_verify_a_config(run):
    code, out = run('verify', TINY)  # it has no address
    assert (code, bool(re.search(rf'{TINY}\W+config\b', out))) == (0, True)


@pytest.mark.parametrize(('status', 'code'), [(200, 0), (404, 1)])
def test_verify_addresses(run, monkeypatch, status, code):
    def head(url, **options):
        asked.append(url)
        response = requests.Response()
        response.status_code, response.url = status, url
        return response

    asked = []
    monkeypatch.setattr(requests, 'head', head)
    name = 'dino_vit-base-p16_3rdparty_in1k'
    found, out = run('verify', name)
    assert (found, asked) == (code, [*find(name).urls])
    assert ('404' in out) == bool(code)


def test_verify_weights_of_ours(tmp_path, cache):
    """They have to fill the model of their config."""
    config = ROOT / 'configs/mp3/mp3_vit-tiny-p16_photoshapes.py'
    entry = find(config.stem)
    fields = {**vars(entry), 'filename': 'w.pth', 'format': 'mmpospretrain'}
    entry = Entry(**fields)
    torch.save(get_model(entry.name).state_dict(), cache / 'w.pth')
    right, wrong = verify.verify(entry, offline=True)
    assert (right[0], right[1][:13], wrong) == ('config', 'file, sha256 ', [])
    torch.save({'x': torch.ones(1)}, cache / 'w.pth')
    _, (wrong,) = verify.verify(entry, offline=True)
    assert 'is a checkpoint of another model' in wrong


def test_describe_without_a_setting():
    assert describe(Result('T', 'B', {'kNN': 1.5})) == 'B: 1.5 kNN'
