"""From a pre-training to a report, through the command line alone."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from mmpospretrain.datasets.photoshapes import generate
from mmpospretrain.evaluation.transfer import TASKS

ROOT = Path(__file__).parents[2]
TINY = 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'
SHORT = {
    'detection': [
        'train_cfg.max_iters=2',
        'param_scheduler.0.end=1',
        'param_scheduler.1.begin=1',
        'param_scheduler.1.end=2',
        'train_dataloader.batch_size=2',
    ],
    'segmentation': [
        'train_cfg.max_iters=2',
        'param_scheduler.0.end=1',
        'param_scheduler.1.begin=1',
        'param_scheduler.1.end=2',
        'train_dataloader.batch_size=2',
    ],
    'classification': [
        'train_cfg.max_epochs=2',
        'param_scheduler.0.end=1',
        'param_scheduler.1.begin=1',
        'param_scheduler.1.end=2',
        'train_dataloader.batch_size=4',
    ],
}
OPTIONS = [f'{task}.{option}' for task, options in SHORT.items() for option in options]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope='module')
def photoshapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'photoshapes'
    generate(folder, images=12, val_images=5, quiet=True)
    return folder


def test_pretrain_transfer_report(photoshapes, tmp_path):
    pretraining = tmp_path / 'pretraining'
    done = run(
        *('tools/train.py', TINY, '--data', photoshapes, '--work-dir', pretraining),
        *('--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'),
        *('param_scheduler.0.end=0.5', 'param_scheduler.1.begin=0.5'),
        *('param_scheduler.1.end=1', 'default_hooks.checkpoint.interval=1'),
    )
    assert done.returncode == 0, done.stderr
    checkpoint = pretraining / 'epoch_1.pth'

    work_dir = tmp_path / 'transfer'
    command = (
        *('tools/transfer.py', checkpoint, '--data', photoshapes, '--seeds', '1'),
        *('--jobs', '2', '--work-dir', work_dir, '--cfg-options', *OPTIONS),
    )
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((work_dir / 'report.json').read_text())
    assert report['tasks'].keys() == SHORT.keys()
    for task, content in report['tasks'].items():
        assert content['results'].keys() == {'pre-trained', 'scratch'}
        assert len(content['commands']) == 2
        for start in content['results']:
            seed = work_dir / task / start / 'seed-0'
            result = json.loads((seed / 'result.json').read_text())
            assert result['seed'] == 0
            log = (seed / 'output.log').read_text()
            loaded = f'{checkpoint} (sha256 {report["sha256"]["pre-trained"][:8]})'
            assert (loaded in log) == (start == 'pre-trained')
    page = (work_dir / 'index.html').read_text()
    for task in SHORT:
        for picture in ('curves.png', 'predictions.png'):
            assert f'{task}/{picture}' in page
            assert (work_dir / task / picture).stat().st_size > 1000
    assert 'tools/train.py configs/transfer/detection' in page

    for task, metric in (('detection', 'coco/bbox_mAP'), ('segmentation', 'mIoU')):
        seed = work_dir / task / 'pre-trained/seed-0'
        (config,) = seed.glob('*.py')
        out = tmp_path / f'{task}.json'
        done = run(
            *('tools/test.py', config, seed / 'iter_2.pth', '--work-dir', tmp_path),
            *('--out', out, '--out-item', 'metrics'),
        )
        assert done.returncode == 0, done.stderr
        trained = json.loads((seed / 'result.json').read_text())['metrics']
        assert metric in trained
        assert json.loads(out.read_text()) == trained

    again = run(*command)
    assert '6 of 6 trainings were through already' in again.stdout, again.stderr
    other = run(*command, 'segmentation.optim_wrapper.optimizer.lr=0.5')
    assert other.returncode == 1
    assert 'holds segmentation results of another checkpoint, config' in other.stderr


@pytest.mark.parametrize('seeds', [1, 2])
def test_only_of_several_seeds_there_is_a_mean(seeds, tmp_path):
    transfer = runpy.run_path(str(ROOT / 'tools/transfer.py'))
    study = Mock(seeds=seeds, folder=tmp_path, task=TASKS['segmentation'])
    study.name = 'segmentation'
    study.jobs.return_value = []
    study.comparison.return_value = None
    values = {title: [20.0, 22.0][:seeds] for title in study.task.metrics.values()}
    study.results.return_value = {'scratch': values}
    section = transfer['section'](study)
    mean = ', with mean ± standard deviation' if seeds > 1 else ''
    assert f'seeds: {seeds}{mean}. The last' in section.text
    caption = section.pictures[0].caption
    assert caption.endswith(
        'images: each seed, and the mean' if seeds > 1 else 'images'
    )
    assert ('±' in section.text + str(section.table)) == (seeds > 1)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nothing.pth'], "error: there is no checkpoint '"),
        (['--data', 'nowhere'], 'photoshapes DIR'),
        (['--data', 'nowhere'], 'nowhere, which CocoDataset needs'),
        (['--recipe', 'droppos'], 'annotations/instances_train2017.json'),
        (['--data', 'driving=x'], "error: --data driving=x: 'driving' is none of"),
        (['--seeds', '0'], 'error: --seeds must be at least 1, got 0'),
        (['--cfg-options', 'lr=1'], 'error: --cfg-options lr: begin with a task'),
        (['--cfg-options', 'detection.modl.x=1'], "did you mean 'model'?"),
        (['--config', 'detection=none.py'], "error: there is no config 'none.py'"),
    ],
)
def test_mistakes_are_named_before_anything_runs(
    arguments, message, photoshapes, tmp_path, tool, monkeypatch
):
    monkeypatch.chdir(ROOT)
    checkpoint = tmp_path / 'some.pth'
    checkpoint.touch()
    first = [] if arguments[0].endswith('.pth') else [checkpoint]
    data = [] if {'--data', '--recipe'} & set(arguments) else ['--data', photoshapes]
    work_dir = tmp_path / 'work'
    error = tool('transfer.py', *first, *arguments, *data, '--work-dir', work_dir)
    assert message in error
    assert not work_dir.exists()
