"""PhotoShapes with labels, to be read and to be spoilt."""

import shutil
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmpospretrain.datasets import folder_labels, map_labels, map_values
from mmpospretrain.datasets.photoshapes import generate


@pytest.fixture(scope='module')
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'photoshapes'
    generate(folder, images=8, val_images=3, size=64, workers=1, quiet=True)
    return folder


@pytest.fixture
def mine(shapes, tmp_path) -> Path:
    """A set to be spoilt."""
    return Path(shutil.copytree(shapes, tmp_path / 'mine'))


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """What checks of labels log."""
    texts = []
    for module in (folder_labels, map_labels, map_values):
        monkeypatch.setattr(module, 'print_log', lambda text, **_: texts.append(text))
    return texts


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    """Checks remember nothing of other tests."""
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(autouse=True)
def log_file(request, tmp_path_factory) -> Path:
    """What is logged, of each test by itself."""
    path = tmp_path_factory.mktemp('log') / 'run.log'
    logger = MMLogger.get_instance(request.node.name, log_file=str(path))
    logger.handlers = [logger.handlers[-1]]  # not to pytest's stream, closed by then
    return path
