"""Loading: nothing runs, nothing is half-loaded, and MMEngine's own files are read."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file
from torch import nn

from mmpospretrain.zoo import loading
from mmpospretrain.zoo.loading import (
    check_state_dict,
    load_checkpoint_file,
    load_strict,
    state_dict_of,
)


class Evil:
    """Unpickling it would create a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


class Sneaky:
    """Reaches for code by the `getattr` that a history buffer needs."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def mmengine_checkpoint() -> dict:
    return {
        'state_dict': OrderedDict(weight=torch.arange(6.0).reshape(2, 3)),
        'message_hub': {
            'log_scalars': OrderedDict(loss=HistoryBuffer([1.0, 3.0], [1, 1])),
            'runtime_info': OrderedDict(lr=np.float64(0.5), n=np.int64(3)),
        },
        'meta': {
            'epoch': 2,
            'dataset_meta': {'ids': np.array([4, 5], np.uint8), 'no': np.array(['a'])},
        },
    }


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'epoch_2.pth'
    torch.save(mmengine_checkpoint(), path)
    return path


def assert_is_mmengine_checkpoint(loaded):
    expected = mmengine_checkpoint()
    assert torch.equal(loaded['state_dict']['weight'], expected['state_dict']['weight'])
    buffer = loaded['message_hub']['log_scalars']['loss']
    assert buffer.mean() == 2.0
    assert buffer.statistics('max') == 3.0
    assert loaded['message_hub']['runtime_info'] == {'lr': 0.5, 'n': 3}
    ids = loaded['meta']['dataset_meta']['ids']
    assert ids.dtype == np.uint8
    assert ids.tolist() == [4, 5]
    assert loaded['meta']['dataset_meta']['no'].tolist() == ['a']


def test_reads_what_mmengine_writes(checkpoint):
    assert_is_mmengine_checkpoint(load_checkpoint_file(checkpoint))


@pytest.mark.parametrize('core', [b'numpy.core.', b'numpy._core.'])
def test_reads_files_of_numpy_1_and_2(checkpoint, tmp_path, core):
    foreign = tmp_path / 'foreign.pth'
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(foreign, 'w') as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith('data.pkl'):
                for known in (b'numpy.core.', b'numpy._core.'):
                    content = content.replace(b'c' + known, b'c' + core)
                assert core in content
            new.writestr(name, content)
    assert_is_mmengine_checkpoint(load_checkpoint_file(foreign))


def test_reads_safetensors_through_mmengine_too(tmp_path):
    path = tmp_path / 'weights.safetensors'
    save_file({'weight': torch.ones(2, 3), 'bias': torch.zeros(2)}, path)
    model = nn.Linear(3, 2)
    load_checkpoint(model, str(path))
    assert model.weight.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'pickle'])
@pytest.mark.parametrize(
    'load', [load_checkpoint_file, CheckpointLoader.load_checkpoint]
)
def test_executes_nothing(tmp_path, load, legacy):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    content = {'state_dict': Evil(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r'evil\.pth asks for \w+\.mkdir.*executed'):
        load(str(path))
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the file is as evil as it claims
    assert trace.exists()


def test_a_plain_pickle_executes_nothing(tmp_path):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    path.write_bytes(pickle.dumps(Evil(trace), protocol=2))
    with pytest.raises(ValueError, match='executed'):
        load_checkpoint_file(path)
    assert not trace.exists()


def test_getattr_reaches_nothing_but_statistics(tmp_path):
    path = tmp_path / 'sneaky.pth'
    torch.save({'state_dict': Sneaky()}, path)
    with pytest.raises(ValueError, match=r'builtins\.getattr'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('share', [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'pickle'])
def test_truncated(tmp_path, share, legacy):
    path = tmp_path / 'half.pth'
    content = {'state_dict': {'w': torch.randn(500), 'v': torch.randn(500)}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r'half\.pth.*(truncated|fetch)'):
        load_checkpoint_file(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', r'is no checkpoint'),
        (b'\n<!DOCTYPE html><html>404</html>', r'is a web page.*<!DOCTYPE'),
        (b'version https://git-lfs', r'is no checkpoint.*version'),
        # a list of images, which was never fetched
        (b'a/b.jpg\nc.jpg\n', 'give another file, or fetch .* if it was downloaded'),
    ],
)
def test_other_files(tmp_path, content, message):
    path = tmp_path / 'page.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_checkpoint_file(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason='is about a missing device')
def test_a_missing_device_is_not_taken_for_a_bad_file(checkpoint):
    with pytest.raises(RuntimeError, match='CUDA'):
        load_checkpoint_file(checkpoint, 'cuda')


def test_weights_come_to_the_cpu_unless_told_otherwise(checkpoint):
    weights = load_checkpoint_file(checkpoint, None)['state_dict']
    assert weights['weight'].device.type == 'cpu'
    weights = load_checkpoint_file(checkpoint, 'meta')['state_dict']
    assert weights['weight'].device.type == 'meta'


def test_truncated_safetensors(tmp_path):
    path = tmp_path / 'w.safetensors'
    save_file({'weight': torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r'w\.safetensors is no whole'):
        load_checkpoint_file(path)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*nothing\.pth'):
        load_checkpoint_file(tmp_path / 'nothing.pth')


def test_a_tensor_is_no_checkpoint(tmp_path):
    torch.save(torch.ones(2), tmp_path / 't.pth')
    with pytest.raises(ValueError, match='holds a Tensor'):
        load_checkpoint_file(tmp_path / 't.pth')


def test_released_models_by_name(monkeypatch):
    monkeypatch.setattr(loading, 'get_deprecated_model_names', lambda: {'old': 'new'})
    monkeypatch.setattr(loading, 'get_external_models', lambda: {'new': 'no/such.pth'})
    with pytest.raises(FileNotFoundError, match=r'no/such\.pth'):
        CheckpointLoader.load_checkpoint('open-mmlab://old')


def test_object_store_loads_safely(tmp_path, monkeypatch):
    stored = io.BytesIO()
    torch.save(Evil(tmp_path / 'trace'), stored)
    monkeypatch.setattr(loading, 'get', lambda *_, **__: stored.getvalue())
    with pytest.raises(ValueError, match='executed'):
        CheckpointLoader.load_checkpoint('s3://bucket/evil.pth')
    with pytest.raises(ValueError, match='download it'):
        CheckpointLoader.load_checkpoint('pavi://evil')
    assert not (tmp_path / 'trace').exists()


def test_check_state_dict_lists_everything_and_both_shapes():
    weights = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict()
    weights['head.weight'] = weights.pop('1.weight')
    weights['0.weight'] = torch.zeros(5, 3)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError) as caught:
        check_state_dict(model, weights, 'a.pth')
    assert str(caught.value).splitlines() == [
        'a.pth is a checkpoint of another model; nothing was loaded.',
        '1 missing:',
        '    1.weight',
        '1 unexpected:',
        '    head.weight',
        '1 of another shape:',
        '    0.weight: (5, 3) in the checkpoint, (4, 3) in the model',
        'Use the config that it was trained with.',
    ]


def test_long_lists_are_cut():
    weights = {f'key{i}': torch.zeros(1) for i in range(23)}
    with pytest.raises(ValueError, match=r'23 unexpected:[^.]*key9\n.*and 13 more'):
        check_state_dict(nn.Identity(), weights, 'a.pth')


def test_load_strict(tmp_path):
    path = tmp_path / 'a.pth'
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    parallel = {f'module.{key}': value for key, value in source.state_dict().items()}
    torch.save({'state_dict': parallel}, path)
    load_strict(target, path)
    assert torch.equal(target.weight, source.weight)
    assert torch.equal(target.bias, source.bias)


def test_load_strict_loads_no_half(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'weight': torch.ones(2, 3), 'bias': torch.ones(4)}, path)
    model = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'bias: \(4,\) in .*, \(2,\) in'):
        load_strict(model, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_state_dict_of_keeps_inner_modules():
    assert state_dict_of({'module.a.module.b': 1}) == {'a.module.b': 1}
