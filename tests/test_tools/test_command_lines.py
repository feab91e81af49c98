"""What every tool says before it has imported anything slow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmpospretrain.engine.cli import read_options, results_folder
from mmpospretrain.evaluation.ensemble import AVERAGES
from mmpospretrain.evaluation.transfer import RECIPES, TASKS
from mmpospretrain.zoo.formats.export import WRITERS

ROOT = Path(__file__).parents[2]
TOOLS = sorted((ROOT / 'tools').glob('*.py'))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Runs a tool where the import of a slow package fails."""
    stubs = tmp_path_factory.mktemp('stubs')
    for name in ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmpospretrain', 'numpy'):
        (stubs / f'{name}.py').write_text(f'raise SystemError("{name} is imported")')

    def call(*command):
        return subprocess.run(
            [sys.executable, *map(str, command)],
            env={**os.environ, 'PYTHONPATH': str(stubs)},
            capture_output=True,
            text=True,
        )

    return call


@pytest.mark.parametrize('tool', TOOLS, ids=lambda tool: tool.stem)
def test_help_and_mistakes_import_nothing_slow(tool, run):
    shown = run(tool, '--help')
    assert (shown.returncode, shown.stderr) == (0, '')
    assert shown.stdout.startswith(f'usage: {tool.name}')
    mistake = run(tool, '--no-such-option')
    assert mistake.returncode == 2
    assert 'error: ' in mistake.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ('tool', 'choices'),
    [
        ('export_model.py', [WRITERS]),
        ('test_ensemble.py', [AVERAGES]),
        ('transfer.py', [RECIPES, TASKS]),
    ],
)
def test_choices_are_those_of_the_package(tool, choices, run):
    """The tools repeat them, to import nothing."""
    shown = run(ROOT / 'tools' / tool, '--help').stdout
    for names in choices:
        assert f'{{{",".join(names)}}}' in shown


def test_options_are_read_as_mmengine_does():
    pairs = ['a.b=1', 'c=[1,2]', 'd=x=y', 'e=(0.9,"z")', 'a.b=2']
    found = read_options(pairs)
    assert found == {'a.b': 2, 'c': [1, 2], 'd': 'x=y', 'e': (0.9, 'z')}
    assert read_options(None) == {}


@pytest.mark.parametrize('pair', ['model.mask_ratio', '=1', 'lr', 'a=[1,(2]'])
def test_what_is_no_option_is_named(pair):
    with pytest.raises(ValueError, match=r'--cfg-options') as caught:
        read_options(['a=1', pair])
    assert pair in str(caught.value)


@pytest.mark.parametrize(
    ('out', 'checkpoint', 'expected'),
    [
        (None, 'runs/a/epoch_1.pth', 'runs/a'),
        (Path('new/out'), 'runs/a/epoch_1.pth', 'new/out'),
        (None, 'epoch_1.pth', '.'),
        (None, 'zoo://some_vit-tiny', 'work_dirs/some_vit-tiny'),
        (None, 'https://example.org/a/vit.pth', 'work_dirs/vit'),
    ],
)
def test_folder_of_results(out, checkpoint, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert results_folder(out, checkpoint) == Path(expected)
    assert Path(expected).is_dir()


@pytest.mark.parametrize('name', ['report.json', 'there', 'maps.npz'])
def test_a_file_is_no_folder_of_results(name, tmp_path):
    (tmp_path / 'there').touch()
    with pytest.raises(ValueError, match=f'--out-dir takes a folder, got .*{name}'):
        results_folder(tmp_path / name, 'epoch_1.pth')


@pytest.mark.parametrize(
    ('arguments', 'allowed'),
    [
        (['--out', 'a.json'], 'pred takes a file that ends in .pkl'),
        (['--out', 'folder'], 'pred takes a file that ends in .pkl'),
        (['--out', 'a.png', '--out-item', 'metrics'], 'in .json or .yaml or .yml or .'),
    ],
)
def test_results_of_a_test_need_an_ending(arguments, allowed, run):
    found = run(ROOT / 'tools/test.py', 'config.py', 'a.pth', *arguments)
    assert found.returncode == 2
    assert allowed in found.stderr
