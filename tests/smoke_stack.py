"""Train two iterations, save, load, resume two more: does the installed stack work?

Then two iterations of every method and ablation that has a small config; then
detection and segmentation, evaluation included, which need the compiled ops of mmcv.
``python tests/smoke_stack.py [--no-transfer]``, run by ``.ci/run`` on the second stack.
Not a pytest file: the environment it is for has no pytest.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from mmengine import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

import mmpospretrain
from mmpospretrain import environment
from mmpospretrain.datasets import photoshapes
from mmpospretrain.engine.cli import build_runner, set_data
from mmpospretrain.zoo.loading import load_checkpoint_file, load_strict

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'
SMALL = [
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.batch_size=2',
    'val_dataloader.num_workers=0',
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
]
SHORT = [
    'train_cfg.max_iters=2',
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
    'param_scheduler.1.end=2',
    'default_hooks.checkpoint.interval=2',
    'train_dataloader.batch_size=2',
]
# All of those that a CPU can train, and their methods and ablations with them.
TINY = sorted((ROOT / 'configs').glob('[!_]*/*tiny-p16_photoshapes.py'))
# DropPosMAE has no small config.
DROPPOS_MAE = dict(
    type='mmpospretrain.DropPosMAE',
    position_weight=0.05,
    pixel_decoder=dict(decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=4),
    pixel_head=dict(
        norm_pix=True, loss=dict(type='PixelReconstructionLoss', criterion='L2')
    ),
)
# Weights of two iterations find nothing; what scores little is a finding all the same.
TRANSFER = {
    'detection': (
        'detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py',
        ['model.test_cfg.rcnn.score_thr=0.0'],
    ),
    'segmentation': ('segmentation/upernet_vit-tiny-p16_photoshapes.py', []),
}


def write_images(folder: Path) -> None:
    """Four images to train on and two to validate."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        (folder / split).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f'{index}.png')


def train(data: Path, work_dir: Path, epochs: int, *extra: str) -> dict:
    """Train through the command line; the checkpoint of the last epoch."""
    options = [*SMALL, f'train_cfg.max_epochs={epochs}']
    command = [sys.executable, ROOT / 'tools/train.py', CONFIG, '--data', data]
    command += ['--work-dir', work_dir, *extra, '--cfg-options', *options]
    subprocess.run(command, check=True)
    return load_checkpoint_file(work_dir / f'epoch_{epochs}.pth')


def train_method(config: Path, name: str, model: dict, data: Path, out: Path) -> None:
    """Two iterations of a small config, in this process."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(model=model))
    set_data(cfg, str(data))
    cfg.work_dir = str(out / name)
    cfg.experiment_name = name  # loggers are shared by name
    for loader in ('train_dataloader', 'val_dataloader'):
        if cfg.get(loader):
            cfg[loader].update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.log_level = 'WARNING'
    runner = build_runner(cfg)
    before = [weight.clone() for weight in runner.model.parameters()]
    runner.train()
    after = [*runner.model.parameters()]
    finite = all(bool(weight.isfinite().all()) for weight in after)
    moved = sum(not old.equal(new) for old, new in zip(before, after, strict=True))
    what = f'{name}: {runner.iter} iterations, {moved} of {len(after)} tensors moved'
    check(runner.iter == 2 and finite and moved > len(after) // 3, what)


def check(truth: bool, what: str) -> None:
    """Say what holds, or stop."""
    print(f'{"ok    " if truth else "FAILED"}  {what}')
    if not truth:
        sys.exit(1)


def transfer(data: Path, pretrained: Path, folder: Path, task: str) -> None:
    """Fine-tune for two iterations; load what was saved and evaluate it."""
    config, options = ROOT / 'configs/transfer' / TRANSFER[task][0], TRANSFER[task][1]
    work_dir = folder / task
    command = [sys.executable, ROOT / 'tools/train.py', config, '--data', data]
    command += ['--pretrained', pretrained, '--work-dir', work_dir]
    subprocess.run([*command, '--cfg-options', *SHORT, *options], check=True)
    trained = json.loads((work_dir / 'result.json').read_text())
    out = folder / f'{task}.json'
    command = [sys.executable, ROOT / 'tools/test.py', config, work_dir / 'iter_2.pth']
    command += ['--data', data, '--out', out, '--out-item', 'metrics']
    command += [
        '--work-dir',
        work_dir,
        *(['--cfg-options', *options] if options else []),
    ]
    subprocess.run(command, check=True)
    tested = json.loads(out.read_text())
    check(trained['iteration'] == 2, f'{task}: two iterations trained and saved')
    same = bool(tested) and tested == trained['metrics']
    check(same, f'{task}: loaded, with the metrics of training')


def main() -> None:
    """Run all of it in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        data, work_dir = Path(folder, 'data'), Path(folder, 'work')
        write_images(data)
        first = train(data, work_dir, 1)
        second = train(data, work_dir, 2, '--resume')
        print(f'\nmmpospretrain {mmpospretrain.__version__} on the stack', end=' ')
        print(*environment.installed_stacks())
        check(first['meta']['iter'] == 2, 'two iterations trained and saved')
        check(second['meta']['iter'] == 4, 'resumed where it stopped, two more')
        loss = second['message_hub']['log_scalars']['train/loss'].data[0]
        check(len(loss) == 4, 'the log goes on after the resume')
        check(bool(np.isfinite(loss).all()), f'finite losses: {loss.round(3)}')
        weights, before = second['state_dict'], first['state_dict']
        moved = sum(not weights[key].equal(before[key]) for key in weights)
        check(moved > len(weights) // 2, f'{moved} of {len(weights)} tensors moved')
        cfg = Config.fromfile(CONFIG)
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model)
        load_strict(model, work_dir / 'epoch_2.pth')
        loaded = model.state_dict()
        same = all(torch.equal(loaded[key], weights[key]) for key in weights)
        check(same, 'a new model takes every weight')

        for config in TINY:
            train_method(config, config.stem, {}, data, work_dir)
        train_method(CONFIG, 'droppos-mae', DROPPOS_MAE, data, work_dir)

        if '--no-transfer' not in sys.argv:
            shapes = Path(folder, 'photoshapes')
            photoshapes.generate(shapes, images=6, val_images=3, quiet=True)
            for task in TRANSFER:
                transfer(shapes, work_dir / 'epoch_2.pth', Path(folder), task)


if __name__ == '__main__':
    main()
