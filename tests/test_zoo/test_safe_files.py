"""YAML and pickles that MMEngine reads: plain values, and nothing runs."""

import codecs
import os
import pickle
from collections import OrderedDict

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config

import mmpospretrain.registry  # noqa: F401  (prepares MMEngine)

VALUES = {
    'a': [1, -2.5, 'ä', None, True, b'b', b''],
    'b': (1, (2, 3)),
    'c': OrderedDict(d={4, 5}, e=frozenset([6])),
    'f': 1 + 2j,
}


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize('ending', ['pkl', 'pickle'])
@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_in_pickles(tmp_path, ending, protocol):
    path = tmp_path / f'annotations.{ending}'
    mmengine.dump(VALUES, path, protocol=protocol)
    assert mmengine.load(path) == VALUES


@pytest.mark.parametrize('protocol', [2, 4])
def test_arrays_in_pickles(tmp_path, protocol):
    arrays = [np.arange(3.0), np.array(['a']), np.float32(2), np.zeros(0, np.uint8)]
    mmengine.dump(arrays, tmp_path / 'a.pkl', protocol=protocol)
    for loaded, expected in zip(mmengine.load(tmp_path / 'a.pkl'), arrays, strict=True):
        assert loaded.dtype == expected.dtype
        np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize(
    'attack',
    [
        lambda trace: Evil(os.mkdir, trace),
        lambda trace: Evil(exec, f'import os; os.mkdir({trace!r})'),
        lambda trace: Evil(getattr, OrderedDict, 'mro'),
        lambda trace: torch.ones(1),
        lambda trace: Evil(np.dtype, 'O,f8'),
        lambda trace: Evil(codecs.encode, 'x', 'rot13'),
    ],
)
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_pickles_run_nothing(tmp_path, attack, protocol):
    path, trace = tmp_path / 'evil.pkl', tmp_path / 'trace'
    path.write_bytes(pickle.dumps(attack(str(trace)), protocol))
    with pytest.raises(ValueError, match='no pickle of plain values'):
        mmengine.load(path)
    assert not trace.exists()


def test_yaml_of_mmengine(tmp_path):
    values = {key: VALUES[key] for key in 'ab'}
    mmengine.dump(values, tmp_path / 'a.yaml')
    assert mmengine.load(tmp_path / 'a.yaml') == values
    Config({'model': {'size': (2, 3)}}).dump(tmp_path / 'b.yml')
    assert Config.fromfile(tmp_path / 'b.yml').model.size == (2, 3)


@pytest.mark.parametrize(
    'tag',
    [
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/new:os.mkdir ['{}']",
        '!!python/name:os.mkdir',
        '!!python/module:antigravity',
    ],
)
@pytest.mark.parametrize('read', [mmengine.load, Config.fromfile])
def test_yaml_runs_nothing(tmp_path, tag, read):
    path, trace = tmp_path / 'evil.yml', tmp_path / 'trace'
    path.write_text(f'model: {tag.format(trace)}\n')
    with pytest.raises(ValueError, match='no YAML of plain values'):
        read(path)
    assert not trace.exists()


def test_yaml_as_the_base_of_a_config(tmp_path):
    trace = tmp_path / 'trace'
    text = f"model: !!python/object/apply:os.mkdir ['{trace}']\n"
    (tmp_path / 'evil.yaml').write_text(text)
    (tmp_path / 'mine.py').write_text("_base_ = './evil.yaml'\n")
    with pytest.raises(ValueError, match='no YAML of plain values'):
        Config.fromfile(tmp_path / 'mine.py')
    assert not trace.exists()
