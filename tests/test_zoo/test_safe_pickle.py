"""Nothing that a checkpoint may hold beside tensors reaches memory, code or others."""

import os
from argparse import Namespace
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader

from mmpospretrain.zoo import loading
from mmpospretrain.zoo.loading import load_checkpoint_file

ADDRESS = b'A' * 8  # of an object, if NumPy believed it


class Call:
    """Unpickling it calls a function, and then sets a state."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = function, arguments, state

    def __reduce__(self):
        function, arguments, state = self.reduced
        return (function, arguments) if state is None else self.reduced


def kind(code, *state):
    """A dtype whose own state declares objects to be none."""
    return Call(np.dtype, code, False, True, state=(3, '|', *state))


def array(dtype):
    reconstruct = np.empty(0).__reduce__()[0]
    return Call(
        reconstruct, np.ndarray, (0,), b'b', state=(1, (1,), dtype, False, ADDRESS)
    )


def scalar(dtype):
    return Call(np.float64(0).__reduce__()[0], dtype, ADDRESS)


OBJECTS = {
    'objects': lambda: kind('O8', None, None, None, -1, -1, 0),
    'record': lambda: kind('V8', None, ('a',), {'a': (np.dtype('O'), 0)}, 8, 1, 0),
    'far field': lambda: kind(
        'V8', None, ('a',), {'a': (np.dtype('f8'), 1 << 30)}, 8, 1, 0
    ),
    'nested': lambda: kind('V8', (np.dtype('O'), (1,)), None, None, 8, 1, 0),
    'type': lambda: Call(type(np.dtype('V8')), 8),
    'code': lambda: Call(np.dtype, 'f8,O'),
}


@pytest.mark.parametrize('make', [array, scalar])
@pytest.mark.parametrize('dtype', OBJECTS)
def test_no_bytes_become_addresses(tmp_path, make, dtype):
    path = tmp_path / 'evil.pth'
    torch.save({'meta': make(OBJECTS[dtype]())}, path)
    with pytest.raises(ValueError, match=r'evil\.pth'):
        load_checkpoint_file(path)


@pytest.mark.parametrize(
    'value',
    [
        *(np.arange(3).astype(code) for code in '?bBhHiIlLqQefdgFDGSUO'),
        np.arange(6, dtype='>f4').reshape(2, 3).T,
        np.array(['ab', 'c']),
        np.array([['a', None]], object),
        np.zeros((0, 4)),
    ],
    ids=lambda value: f'{value.dtype}{value.shape}',
)
def test_honest_arrays(tmp_path, value):
    """Also through a second file: as plain arrays, which any program reads."""
    first, second = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save({'meta': value}, first)
    torch.save(load_checkpoint_file(first), second)
    for path in (first, second):
        loaded = load_checkpoint_file(path)['meta']
        assert isinstance(loaded, np.ndarray)
        assert loaded.dtype == value.dtype.newbyteorder('=')  # as NumPy reads it
        np.testing.assert_array_equal(loaded, value)
    assert type(torch.load(second, weights_only=False)['meta']) is np.ndarray


@pytest.mark.parametrize(
    'value', [np.float32(0.5), np.int64(-3), np.bool_(True), np.str_('ab'), np.str_('')]
)
def test_honest_scalars(tmp_path, value):
    torch.save({'meta': value}, tmp_path / 'a.pth')
    loaded = load_checkpoint_file(tmp_path / 'a.pth')['meta']
    assert loaded == value
    assert type(loaded) is type(value)


def test_statistics_of_a_file_do_not_replace_ours(tmp_path):
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    before = dict(HistoryBuffer._statistics_methods)
    buffer.__dict__['_statistics_methods'] = {'mean': OrderedDict, 'max': Namespace}
    torch.save({'meta': buffer}, tmp_path / 'a.pth')
    loaded = load_checkpoint_file(tmp_path / 'a.pth')['meta']
    assert type(loaded) is HistoryBuffer
    assert loaded.statistics('mean') == 2.0
    assert HistoryBuffer._statistics_methods == before


@pytest.mark.parametrize(
    'state',
    [
        {},
        {'max_length': 'x', '_log_history': 1, '_count_history': 1},
        {'max_length': 5},
    ],
)
def test_a_broken_history_is_an_error(tmp_path, state):
    path, buffer = tmp_path / 'a.pth', HistoryBuffer()
    buffer.__dict__ = state
    torch.save({'meta': buffer}, path)
    with pytest.raises(ValueError, match=r'a\.pth'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('scheme', ['torchvision', 'modelzoo', 'mmcls', 'openmmlab'])
def test_released_models_are_read_safely(tmp_path, monkeypatch, scheme):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save({'state_dict': Call(os.mkdir, str(trace))}, path)
    for models in ('torchvision', 'mmcls', 'external'):
        monkeypatch.setattr(
            loading, f'get_{models}_models', lambda: {'a': 'https://example.org/a.pth'}
        )
    monkeypatch.setattr(loading, 'fetch_url', lambda url: path)
    with pytest.raises(ValueError, match='executed'):
        CheckpointLoader.load_checkpoint(f'{scheme}://a')
    assert not trace.exists()


def test_mmcls_gives_the_backbone(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    weights = {'backbone.w': torch.ones(1), 'head.w': torch.zeros(1)}
    torch.save({'state_dict': weights}, path)
    monkeypatch.setattr(loading, 'get_mmcls_models', lambda: {'a': 'https://x/a.pth'})
    monkeypatch.setattr(loading, 'fetch_url', lambda url: path)
    loaded = CheckpointLoader.load_checkpoint('mmcls://a')
    assert loaded == {'state_dict': {'w': torch.ones(1)}}
