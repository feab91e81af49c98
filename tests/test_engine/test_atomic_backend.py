"""A kill during a save leaves the last good checkpoint whole."""

import os
import signal
import stat
import subprocess
import sys

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

from mmpospretrain.engine.atomic_backend import AtomicLocalBackend

# Dies by SIGKILL at the moment named on the command line: mid-write or before the move.
KILLED_WRITER = """
import os, signal, sys
from mmpospretrain.engine import atomic_backend
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[1], die)
atomic_backend.AtomicLocalBackend().put(b'new' * 10**6, sys.argv[2])
"""


@pytest.mark.parametrize('moment', ['fsync', 'replace'])
def test_kill_keeps_the_old_file(tmp_path, moment):
    target = tmp_path / 'epoch_1.pth'
    target.write_bytes(b'old')
    command = [sys.executable, '-c', KILLED_WRITER, moment, str(target)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert target.read_bytes() == b'old'


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    target = tmp_path / 'epoch_1.pth'
    target.write_bytes(b'old')

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space'):
        AtomicLocalBackend().put(b'new', target)
    assert target.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_an_interruption_stays_one(tmp_path, monkeypatch):
    """Also where the file has been moved already, and there is nothing to clean up."""
    replace = os.replace

    def replace_and_stop(source, target):
        replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', replace_and_stop)
    with pytest.raises(KeyboardInterrupt):
        AtomicLocalBackend().put(b'new', tmp_path / 'epoch_1.pth')
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_checkpoints_go_through_it(tmp_path):
    path = tmp_path / 'new' / 'a.pth'
    save_checkpoint({'a': 1}, str(path), backend_args=dict(backend='atomic'))
    assert torch.load(path) == {'a': 1}
    assert os.listdir(path.parent) == ['a.pth']


def test_text_replaces_the_old(tmp_path):
    backend = get_file_backend(backend_args=dict(backend='atomic'))
    for text in ('ß', 'σ = 1'):
        backend.put_text(text, str(tmp_path / 'last_checkpoint'))
    assert (tmp_path / 'last_checkpoint').read_text('utf-8') == 'σ = 1'


def test_others_may_read_as_the_umask_says(tmp_path):
    old = os.umask(0o027)
    try:
        AtomicLocalBackend().put(b'', tmp_path / 'a')
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / 'a').stat().st_mode) == 0o640
