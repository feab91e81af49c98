"""tools/train.py and tools/test.py as a user meets them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmpospretrain.zoo.loading import load_checkpoint_file

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'
SMALL = [
    'model.backbone.arch.embed_dims=32',
    'model.backbone.arch.num_layers=1',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'train_cfg.max_epochs=1',
    'param_scheduler.1.end=1',
    'default_hooks.checkpoint.interval=1',
]


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    """As in the README, where configs are named."""
    monkeypatch.chdir(ROOT)


def train(tool, work_dir, data, *args, options=()):
    common = [CONFIG, '--data', data, '--work-dir', work_dir]
    return tool('train.py', *common, *args, '--cfg-options', *SMALL, *options)


def log(work_dir):
    """Of the last run."""
    return max(work_dir.glob('*/*.log')).read_text()


def test_train_resume_and_test(tool, tmp_path, image_folder):
    work = tmp_path / 'work'
    assert train(tool, work, image_folder, '--tensorboard') is None
    assert list(work.glob('*/vis_data/events.out.tfevents*'))
    assert load_checkpoint_file(work / 'epoch_1.pth')['meta']['epoch'] == 1

    for args, message in (
        ((), 'epoch_1.pth is of an earlier training, whose checkpoints'),
        (('--resume',), 'Nothing is left to do: 6 of 6 iterations are done'),
    ):
        assert message not in log(work)
        assert train(tool, work, image_folder, *args) is None
        assert message in log(work)

    more = ['train_cfg.max_epochs=2', 'param_scheduler.1.end=2']
    assert train(tool, work, image_folder, '--resume', options=more) is None
    assert 'Nothing is left' not in log(work)
    meta = load_checkpoint_file(work / 'epoch_2.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (2, 12)

    out = tmp_path / 'metrics.json'
    test = ['--data', image_folder, '--work-dir', tmp_path / 'test', '--out', out]
    checkpoint = work / 'epoch_2.pth'
    options = ['--out-item', 'metrics', '--cfg-options', *SMALL]
    assert tool('test.py', CONFIG, checkpoint, *test, *options) is None
    assert 0 <= json.loads(out.read_text())['position/top1'] <= 100

    # A checkpoint of another model: both shapes, and nothing loaded.
    other = [*options, 'model.backbone.arch.embed_dims=64']
    error = tool('test.py', CONFIG, checkpoint, *test, *other)
    assert 'backbone.cls_token' in error
    assert '(1, 1, 32)' in error
    assert '(1, 1, 64)' in error

    error = tool('test.py', CONFIG, work / 'epoch_9.pth', *test, *options)
    assert 'epoch_9.pth' in error

    error = tool('test.py', CONFIG, checkpoint, '--data', image_folder / 'train')
    assert re.search(r'error: .*: there is no val/ to test on in .*train$', error)
    error = tool('test.py', 'configs/stop/stop_vit-tiny-p16_photoshapes.py', checkpoint)
    assert 'photoshapes.py has no test' in error


def test_flat_folder_and_list_file(tool, tmp_path, image_folder):
    listing = tmp_path / 'list.txt'
    files = sorted((image_folder / 'train').glob('*.jpg'))[:8]
    listing.write_text('\n'.join(map(str, files)))
    for name, data, steps in (
        ('flat', image_folder / 'train', 6),
        ('list', listing, 2),
    ):
        work = tmp_path / name
        assert train(tool, work, data) is None
        checkpoint = load_checkpoint_file(work / 'epoch_1.pth')
        assert checkpoint['meta']['iter'] == steps
        cfg = Config.fromfile(work / Path(CONFIG).name)
        assert cfg.val_dataloader is None  # there is no val/


@pytest.mark.parametrize('workers', [0, 1])
def test_broken_images_are_one_line(tool, tmp_path, image_folder, workers):
    """Also in a training that runs, and in a worker."""
    listing = tmp_path / 'list.txt'
    files = sorted((image_folder / 'train').glob('*.jpg'))
    listing.write_text('\n'.join([*map(str, files), 'no_1.jpg', 'no_2.jpg']))
    options = [f'train_dataloader.num_workers={workers}']
    error = train(tool, tmp_path / 'work', listing, options=options)
    assert error.startswith('error: 2 of 26 images cannot be read')
    assert '\n' not in error


def test_errors_of_use_are_one_line(tool, tmp_path, image_folder):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').touch()
    work = tmp_path / 'work'
    for error, *words in (
        (tool('train.py', 'configs/none.py'), "there is no config 'configs/none.py'"),
        (train(tool, work, tmp_path / 'nowhere'), 'nowhere'),
        (train(tool, work, tmp_path / 'empty'), 'empty'),
        (train(tool, tmp_path / 'file/work', image_folder), '--work-dir'),
        (
            train(tool, work, image_folder, options=['model.mask_ration=0.5']),
            'model.mask_ration',
            "'mask_ratio'",
        ),
        (
            train(tool, work, image_folder, options=['model.mask_ratio=1.5']),
            r'mask_ratio must lie in [0, 1), got 1.5',
        ),
        (
            train(tool, work, image_folder, options=['train_dataloader.batch_size=99']),
            '24 images make no batch of 99',
        ),
        (
            train(tool, work, image_folder, '--resume', tmp_path / 'no.pth'),
            'there is no checkpoint',
            'no.pth',
        ),
        *(
            [(train(tool, work, image_folder, '--amp'), '--amp bfloat16 needs a GPU')]
            if not torch.cuda.is_available()
            else []
        ),
    ):
        assert error.startswith('error: '), error
        for word in words:
            assert word in error
    assert not list(work.glob('*.pth'))


@pytest.mark.skipif(sys.platform != 'linux', reason='threads are read from /proc')
def test_processes_leave_their_group(tmp_path, image_folder):
    """Threads of gloo that outlive Python's end would abort a process at random, and a
    model that is the last to hold the group could wait for them for ever.
    """
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    work = tmp_path / 'work'
    common = ['--data', image_folder, '--launcher', 'pytorch', '--work-dir', work]
    for tool, *args in (('train.py',), ('test.py', work / 'epoch_1.pth')):
        script = [Path(__file__).with_name('threads_left.py'), ROOT / 'tools' / tool]
        command = [sys.executable, *torchrun, *script, CONFIG, *args, *common]
        result = subprocess.run(
            [*map(str, command), '--cfg-options', *SMALL],
            capture_output=True,
            text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
            timeout=900,
        )
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        for rank in range(2):
            assert re.search(
                rf'rank {rank}: [1-9]\d* then 0, 0 models\n', result.stdout
            )


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_interruption_leaves_the_last_checkpoint(tmp_path, image_folder, stop):
    work = tmp_path / 'work'
    options = [*SMALL, 'train_cfg.max_epochs=999', 'train_cfg.val_interval=999']
    paths = ['--data', str(image_folder), '--work-dir', str(work)]
    command = [sys.executable, 'tools/train.py', CONFIG, *paths]
    process = subprocess.Popen(
        [*command, '--cfg-options', *options],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        # Tests may run in the background, where SIGINT is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while not (work / 'last_checkpoint').exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(stop)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert 'Traceback' not in stderr
    assert 'Go on with --resume' in stderr
    # What the run has left is whole, and nothing half-written lies beside it.
    checkpoints = sorted(work.glob('epoch_*.pth'))
    assert checkpoints
    for path in checkpoints:
        assert load_checkpoint_file(path)['state_dict']
    assert Path((work / 'last_checkpoint').read_text()).exists()
    assert not list(work.glob('.epoch_*'))
