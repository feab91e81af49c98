"""CIFAR through the real pipelines of its configs: red stays red."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10, CIFAR100, RandAugment
from PIL import Image

from mmpospretrain.datasets.labelled import check_layout
from mmpospretrain.engine.cli import set_data
from mmpospretrain.visualization import as_rgb, load_sample

CONFIGS = Path(__file__).parents[2] / 'configs'
PRETRAINING = CONFIGS / 'mp3/mp3_vit-small-p4_1xb256-coslr-2000e_cifar100.py'
FINE_TUNING = (
    CONFIGS / 'transfer/classification/vit-small-p4_1xb256-coslr-400e_cifar100.py'
)
TRANSFER = CONFIGS / 'transfer/classification/vit-base-p16_8xb96-coslr-1000e_cifar10.py'
ALL = [PRETRAINING, FINE_TUNING, TRANSFER]

RED = (255, 0, 0)
# As both kinds of models see it: RGB, by the mean and the deviation of ImageNet.
SEEN = (np.array(RED) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Both CIFARs with 8 red images a file, under one root."""
    for kind, labels in ((CIFAR10, 'labels'), (CIFAR100, 'fine_labels')):
        folder = tmp_path / kind.base_folder
        folder.mkdir()
        for files in ('train_list', 'test_list'):
            names = [name for name, _ in getattr(kind, files)]
            monkeypatch.setattr(kind, files, [[name, None] for name in names])
            for name in names:
                data = np.repeat(np.uint8(RED), 32 * 32)[None].repeat(8, axis=0)
                content = {'data': data, labels: [*range(8)]}
                (folder / name).write_bytes(pickle.dumps(content))
    return tmp_path


def load(path, root):
    cfg = Config.fromfile(path)
    set_data(cfg, str(root))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(batch_size=4, num_workers=0)
    cfg.model.backbone.arch = dict(
        embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=32
    )
    cfg.model.backbone.init_cfg = None
    if path != PRETRAINING:
        cfg.model.head.in_channels = 32
    return cfg


def first_batch(loader):
    return next(iter(Runner.build_dataloader(loader, seed=0)))


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_a_step_on_a_batch(path, cifar):
    cfg = load(path, cifar)
    model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
    model.init_weights()
    data = model.data_preprocessor(first_batch(cfg.train_dataloader), training=True)
    size = cfg.model.backbone.img_size
    assert data['inputs'].shape == (4, 3, size, size)
    assert model(**data, mode='loss')['loss'].isfinite()
    data = model.data_preprocessor(first_batch(cfg.val_dataloader))
    assert len(model.eval()(**data, mode='predict')) == 4


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_red_stays_red(path, cifar, monkeypatch):
    cfg = load(path, cifar)
    augmented = []

    def keep(self, results):
        augmented.append(results['img'])
        return results

    monkeypatch.setattr(RandAugment, 'transform', keep)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step['type'] == 'RandomErasing':
            step['erase_prob'] = 0.0
    preprocess = MODELS.build(
        {'type': 'ClsDataPreprocessor', **cfg.data_preprocessor}
    ).eval()
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        images = preprocess(first_batch(loader))['inputs']
        middle = images[..., images.shape[-1] // 2, images.shape[-1] // 2]
        expected = torch.tensor(SEEN, dtype=torch.float32).expand(4, 3)
        torch.testing.assert_close(middle, expected)
    # RandAugment takes BGR, as from files.
    assert len(augmented) == 4
    assert all((image[16, 16] == RED[::-1]).all() for image in augmented)


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_nothing_is_downloaded(path, tmp_path):
    cfg = load(path, tmp_path / 'nothing')
    kind = cfg.train_dataloader.dataset.type.removeprefix('mmpospretrain.')
    with pytest.raises(FileNotFoundError, match=rf'no .*nothing.*{kind} needs.*--data'):
        check_layout(cfg)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.download is False
    with pytest.raises(RuntimeError, match=f'Cannot find {kind} dataset in .*nothing'):
        first_batch(cfg.train_dataloader)


@pytest.mark.parametrize('size', [(32, 32), (64, 48)])
def test_pipelines_take_files_too(size, tmp_path):
    """The tools for pictures and features read any image through ``val_pipeline``."""
    Image.new('RGB', size, RED).save(tmp_path / 'red.png')
    pipeline = Compose(Config.fromfile(PRETRAINING).val_pipeline)
    picture = as_rgb(load_sample(tmp_path / 'red.png', pipeline))
    assert picture.shape == (32, 32, 3)
    assert (picture == RED).all()
