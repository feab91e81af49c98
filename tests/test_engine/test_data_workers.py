"""Data workers: other augmentation in every epoch, and the same after a resume."""

from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch.utils.data import Dataset
from trainings import assert_same

from mmpospretrain.datasets.photoshapes import generate
from mmpospretrain.engine import PretrainRunner
from mmpospretrain.zoo.loading import load_checkpoint_file

CLASSIFICATION = 'configs/transfer/classification/vit-tiny-p16_photoshapes.py'
CONFIG = Path(__file__).parents[2] / CLASSIFICATION
SHORT = [
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=2',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=1',
    'model.backbone.arch.embed_dims=32',
    'model.backbone.arch.feedforward_channels=64',
    'model.backbone.drop_path_rate=0.2',
    'model.head.in_channels=32',
    'train_cfg.max_epochs=2',
    'param_scheduler.1.end=2',
]


@DATASETS.register_module()
class Draws(Dataset):
    """What the generators of a worker give, instead of images."""

    metainfo = None

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        return np.random.rand() + torch.rand(()).item()  # noqa: NPY002, as transforms


def test_epochs_differ(tiny_config):
    cfg = tiny_config()
    cfg.train_dataloader = dict(
        dataset=dict(type='Draws'),
        batch_size=2,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    runner = PretrainRunner.from_cfg(cfg)
    loop = runner.build_train_loop(runner._train_loop)
    draws = []
    for epoch in (0, 1, 0):
        loop._epoch = epoch
        runner._train_loop = loop
        runner.call_hook('before_train_epoch')
        draws.append([value for batch in loop.dataloader for value in batch])
    first, second, again = draws
    assert first == again
    assert len({*first, *second}) == 16


def test_resume_of_a_fine_tuning(tool, tmp_path):
    """Equals the uninterrupted one bit for bit: weights, optimizer, augmentation."""
    data = tmp_path / 'photoshapes'
    generate(data, images=8, val_images=2, quiet=True)

    def train(work_dir: Path, *more: str | Path) -> dict:
        error = tool(
            *('train.py', CONFIG, '--data', data, '--no-validate', *more),
            *('--pretrained', 'none', '--work-dir', work_dir, '--cfg-options', *SHORT),
        )
        assert error is None
        return load_checkpoint_file(work_dir / 'epoch_2.pth')

    whole = train(tmp_path / 'whole')
    resumed = train(tmp_path / 'resumed', '--resume', tmp_path / 'whole/epoch_1.pth')
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(whole[part], resumed[part], part)
