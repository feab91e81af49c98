"""What the tests of whole trainings share."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.config import Config

from mmpospretrain.engine import PretrainRunner


def train(cfg: Config) -> PretrainRunner:
    runner = PretrainRunner.from_cfg(cfg)
    runner.train()
    return runner


def assert_same(a, b, path=''):
    """Equal bit for bit, however nested."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f'{path}.{key}')
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f'{path}[{index}]')
    else:
        assert a == b, path


def run_worker(worker: Path, config: Config, out: Path, processes: int) -> dict:
    """Train in `processes` processes by a script that fixes the masks."""
    path = out.with_suffix('.py')
    config.dump(path)
    command = [sys.executable, str(worker), str(path), str(out)]
    if processes > 1:
        launcher = ['-m', 'torch.distributed.run', '--standalone']
        command[1:1] = [*launcher, f'--nproc_per_node={processes}']
        config.launcher = 'pytorch'
        config.dump(path)
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return torch.load(out, weights_only=True)


def assert_same_model(a, b):
    for name, weight in a['state_dict'].items():
        torch.testing.assert_close(
            b['state_dict'][name], weight, rtol=1e-4, atol=1e-6, msg=name
        )
