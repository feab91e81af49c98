"""What the tests of resumed trainings share: a training of a second."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mmpospretrain.engine import PretrainRunner

IMAGES = 12
COSINE = dict(
    type='CosineAnnealingLR', begin=1, end=4, eta_min=0.0, convert_to_iter_based=True
)
WARMUP = dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True)


UNTIL_4 = {'param_scheduler.1.end': 4}
ITER_SAVING = dict(by_epoch=False, interval=4)


@DATASETS.register_module(force=True)
class Numbers(Dataset):
    """As few lines as a training can learn from."""

    def __init__(self, length: int = IMAGES, classes: tuple = ('a', 'b')) -> None:
        self.length = length
        self.metainfo = dict(classes=classes)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor([float(index)]), data_samples=index)


@MODELS.register_module(force=True)
class Line(BaseModel):
    """Two layers, the second without weight decay where a config says so."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.first = nn.Linear(1, width)
        self.second = nn.Linear(width, 1)
        self.sigma = 1.0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """The loss, as every model of MMEngine."""
        if mode == 'predict':
            return data_samples
        return dict(loss=self.second(self.first(torch.stack(inputs))).square().mean())


@METRICS.register_module(force=True)
class Better(BaseMetric):
    """Says each time that the model is better than it ever was."""

    def process(self, data_batch, data_samples):
        """Notes that something was validated."""
        self.results.append(1)

    def compute_metrics(self, results):
        """A number that grows."""
        return dict(score=time.monotonic())


def options(**changes) -> dict:
    """A config; changes replace what they name with a path."""
    cfg = Config(
        dict(
            model=dict(type='Line'),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(type='Numbers'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=4),
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1),
                paramwise_cfg=dict(bias_decay_mult=0.0),
            ),
            param_scheduler=[WARMUP, COSINE],
            auto_scale_lr=dict(enable=True, base_batch_size=2),
            default_hooks=dict(
                checkpoint=dict(
                    type='mmpospretrain.AtomicCheckpointHook',
                    interval=1,
                    backend_args=dict(backend='atomic'),
                ),
            ),
            custom_hooks=[dict(type='mmpospretrain.StepSeedHook')],
            randomness=dict(seed=0),
            default_scope='mmpretrain',
            log_level='INFO',
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


def plateau(**changes) -> dict:
    reduce = dict(type='ReduceOnPlateauLR', monitor='score', factor=0.5, patience=0)
    validated = {
        'val_dataloader': options().train_dataloader,
        'val_cfg': dict(),
        'val_evaluator': dict(type='Better'),
        'param_scheduler': [{**reduce, 'rule': 'less'}],
    }
    return {**validated, **changes}


def edit(path: Path, change: Callable[[dict], None]) -> None:
    """Change a checkpoint."""
    checkpoint = torch.load(path, weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, path)


def said(runner: PretrainRunner) -> list[str]:
    """What its log says of differences."""
    start = 'Resumed with a difference: '
    return [line.removeprefix(start) for line in runner.told if line.startswith(start)]


def rates(runner: PretrainRunner) -> list[float]:
    """Learning rate of every iteration, resumed ones included."""
    return list(runner.message_hub.get_scalar('train/lr').data[0])


def log(runner: PretrainRunner) -> str:
    """All that it has logged in training."""
    return '\n'.join(runner.told)
