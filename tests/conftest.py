"""Fixtures that several test files share."""

import runpy
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope, init_default_scope
from PIL import Image

ROOT = Path(__file__).parents[1]
TINY_CONFIG = ROOT / 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'
TINY_IJEPA = ROOT / 'configs/stop/ijepa_vit-tiny-p16_photoshapes.py'


@pytest.fixture(autouse=True)
def mmpretrain_scope() -> None:
    """Each test begins in MMPretrain's scope, whatever one before it has left."""
    init_default_scope('mmpretrain')


@pytest.fixture(autouse=True)
def terminal(monkeypatch) -> None:
    """What is printed does not depend on the terminal that the tests are run in."""
    for name in ('COLUMNS', 'FORCE_COLOR', 'NO_COLOR', 'TTY_COMPATIBLE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TERM', 'xterm')


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory) -> Path:
    """Folder with ``train/`` (24 images) and ``val/`` (6) of smooth noise, 112²."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for split, count in (('train', 24), ('val', 6)):
        (root / split).mkdir()
        for index in range(count):
            small = rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((112, 112), Image.Resampling.BICUBIC)
            image.save(root / split / f'{index:03}.jpg')
    return root


@pytest.fixture
def shrink(image_folder, tmp_path) -> Callable[..., Config]:
    """A PhotoShapes config, smaller still, on `image_folder`; takes cfg-options."""

    def build(path: Path, options: dict) -> Config:
        cfg = Config.fromfile(path)
        cfg.work_dir = str(tmp_path / 'work')
        # Loggers and visualizers are shared by name, by default the time in seconds.
        cfg.experiment_name = tmp_path.name
        # Noise has no labels.
        cfg.custom_hooks = [h for h in cfg.custom_hooks if 'KNN' not in h.type]
        common = {
            'model.backbone.arch.embed_dims': 32,
            'model.backbone.arch.num_layers': 2,
            'model.backbone.arch.feedforward_channels': 64,
            'train_dataloader.dataset.data_root': str(image_folder),
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'default_hooks.checkpoint.interval': 1,
        }
        cfg.merge_from_dict({**common, **options})
        return cfg

    return build


@pytest.fixture
def tiny_config(image_folder, shrink) -> Callable[..., Config]:
    """DropPos, small; takes cfg-options."""

    def build(**options) -> Config:
        sizes = {'model.head.decoder_dims': 32}
        for loader in ('val_dataloader', 'test_dataloader'):
            sizes[f'{loader}.dataset.data_root'] = str(image_folder)
            sizes[f'{loader}.num_workers'] = 0
        return shrink(TINY_CONFIG, {**sizes, **options})

    return build


@pytest.fixture
def tiny_ijepa(shrink) -> Callable[..., Config]:
    """I-JEPA, small; takes cfg-options."""

    def build(**options) -> Config:
        sizes = {'model.neck.embed_dims': 24, 'model.neck.depth': 1}
        return shrink(TINY_IJEPA, {**sizes, **options})

    return build


@pytest.fixture
def tool(monkeypatch) -> Iterator[Callable[..., str | int | None]]:
    """Run a tool in this process; returns its error, or None."""
    # MMEngine's global objects, and the tools' SIGTERM, are left as they were. A tool
    # must not take what a training in another test has noted for its own.
    monkeypatch.setattr(MessageHub, '_instance_dict', OrderedDict())
    scopes = DefaultScope._instance_dict.copy()
    monkeypatch.setattr(DefaultScope, '_instance_dict', scopes)
    monkeypatch.setenv('LOCAL_RANK', '0')  # as the tools set it
    handler = signal.getsignal(signal.SIGTERM)

    def run(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as error:
            return error.code

    yield run
    signal.signal(signal.SIGTERM, handler)
