"""Fixtures of whole trainings."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from resumes import UNTIL_4, options

from mmpospretrain.engine import PretrainRunner


@pytest.fixture
def knn(image_folder, tmp_path):
    """A hook; the labels are made up."""
    datasets = {}
    for split in ('train', 'val'):
        images = sorted((image_folder / split).iterdir())
        lines = [f'{split}/{p.name} {i % 2}' for i, p in enumerate(images)]
        (tmp_path / f'{split}.txt').write_text('\n'.join(lines))
        datasets[split] = dict(
            type='mmpospretrain.ImageFolder',
            with_label=True,
            data_root=str(image_folder),
            ann_file=str(tmp_path / f'{split}.txt'),
            pipeline=[dict(type='CenterCrop', crop_size=96), dict(type='PackInputs')],
        )
    return dict(type='mmpospretrain.KNNHook', k=3, num_workers=0, **datasets)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Callable[..., PretrainRunner]:
    """Train in a folder of `tmp_path`; takes changes of `options`."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)  # asks compilers
    count = 0

    def train(work: str, resume: bool | str = False, **changes) -> PretrainRunner:
        nonlocal count
        count += 1
        cfg = options(**changes)
        cfg.work_dir = str(tmp_path / work)
        cfg.experiment_name = f'{tmp_path.name}_{count}'
        cfg.resume = bool(resume)
        cfg.load_from = str(resume) if isinstance(resume, Path) else None
        runner = PretrainRunner.from_cfg(cfg)
        # Its log file may be that of a run before, in the same second.
        runner.told = []
        handler = logging.Handler()
        handler.emit = lambda record: runner.told.append(record.getMessage())
        runner.logger.addHandler(handler)
        runner.train()
        return runner

    return train


@pytest.fixture
def begun(run, tmp_path) -> Path:
    """Folder of a training that was stopped after two of four epochs."""
    run('begun', **{'train_cfg.max_epochs': 2, **UNTIL_4})
    return tmp_path / 'begun'
