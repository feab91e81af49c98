"""Files of tensors: whole, and of the mode that the umask gives."""

import os

import pytest
import torch
from safetensors.torch import load_file, safe_open

from mmpospretrain.zoo.saving import save_safetensors


@pytest.fixture(params=[0o022, 0o002, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_mode_follows_the_umask(umask, tmp_path):
    path = tmp_path / 'a.safetensors'
    save_safetensors({'a': torch.ones(2)}, path)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path):
    path = tmp_path / 'a.safetensors'
    path.touch()
    path.chmod(0o640)
    save_safetensors({'a': torch.ones(2)}, path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_views_and_metadata(tmp_path):
    path = tmp_path / 'a.safetensors'
    both = torch.arange(6.0).view(2, 3)
    save_safetensors({'a': both, 'b': both.T, 'c': both[0]}, path, {'note': 'x'})
    found = load_file(path)
    assert found['b'].equal(both.T)
    assert found['c'].equal(both[0])
    with safe_open(path, 'pt') as file:
        assert file.metadata() == {'note': 'x'}
