"""What is said of a config that cannot be read."""

import pytest

from mmpospretrain.engine.cli import load_config


def message(tmp_path, text):
    """What is said of a config, without the part that names it."""
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(ValueError, match=r'mine\.py cannot be read: ') as error:
        load_config(str(tmp_path / 'mine.py'))
    return str(error.value).partition(' cannot be read: ')[2]


@pytest.mark.parametrize(
    ('line', 'what'),
    [
        ('a = unknown', "NameError: name 'unknown' is not defined"),
        ('a = 1 / 0', 'ZeroDivisionError: division by zero'),
        (
            'import not_installed',
            "ModuleNotFoundError: No module named 'not_installed'",
        ),
        ("a = dict(b=1)['c']", "KeyError: 'c'"),
        ('a = _base_.c', "AttributeError: 'ConfigDict' object has no attribute 'c'"),
        ("a = int('x')", "ValueError: invalid literal for int() with base 10: 'x'"),
    ],
)
def test_a_line_that_fails(tmp_path, line, what):
    (tmp_path / 'base.py').write_text('d = 1\n')
    text = f"_base_ = './base.py'\n{line}\n"
    assert message(tmp_path, text) == f'{what} ({tmp_path}/mine.py, line 2)'


@pytest.mark.parametrize(
    'heir',
    [
        "_base_ = './base.py'",
        "_base_ = ['base.py']",
        'from mmengine.config import read_base\n'
        'with read_base():\n    from .base import *',
    ],
)
@pytest.mark.parametrize(
    ('line', 'what'),
    [
        ('a = dict(', "'(' was never closed"),
        ('a = unknown', "NameError: name 'unknown' is not defined"),
    ],
)
def test_a_base_that_fails(tmp_path, heir, line, what):
    (tmp_path / 'base.py').write_text(f'd = 1\n{line}\n')
    said = message(tmp_path, heir)
    assert said.startswith(f'{what} (')
    assert said.endswith('base.py, line 2)')


@pytest.mark.parametrize(
    ('line', 'what'),
    [
        (
            'import not_installed',
            "ModuleNotFoundError: No module named 'not_installed'",
        ),
        ('a = unknown', "NameError: name 'unknown' is not defined"),
        ('a = dict(', "'(' was never closed"),
    ],
)
def test_a_module_of_custom_imports_that_fails(tmp_path, monkeypatch, line, what):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'mine_fails.py').write_text(f'd = 1\n{line}\n')
    text = "custom_imports = dict(imports=['mine_fails'])"
    assert message(tmp_path, text) == f'{what} ({tmp_path}/mine_fails.py, line 2)'


def test_what_no_line_is_to_blame_for(tmp_path):
    text = "custom_imports = dict(imports=['not_installed'])"
    expected = "ModuleNotFoundError: No module named 'not_installed'"
    assert message(tmp_path, text) == expected
    (tmp_path / 'base.py').write_text('a = 1\n')
    (tmp_path / 'other.py').write_text('a = 2\n')
    said = message(tmp_path, "_base_ = ['base.py', 'other.py']")
    assert said.startswith('KeyError: "Duplicate key is not allowed among bases')
    assert str(tmp_path / 'gone.py') in message(tmp_path, "_base_ = ['gone.py']")
