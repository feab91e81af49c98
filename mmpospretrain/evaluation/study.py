"""The fine-tunings of one task, from plan to pictures; `tools/transfer.py` runs it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mmpospretrain.datasets.labelled import check_layout
from mmpospretrain.datasets.skipping import take_shares
from mmpospretrain.engine.cli import (
    HOW_TO_READ,
    PREFIX_TOKENS,
    load_config,
    load_model,
    match_prefix_tokens,
    set_data,
    set_pretrained,
)
from mmpospretrain.engine.options import options_kept
from mmpospretrain.engine.pool import Job
from mmpospretrain.visualization import plot_predictions, plot_seeds, read_scalars
from mmpospretrain.zoo import load_backbone
from mmpospretrain.zoo.pretrained import pretrained_options

from .transfer import TASKS, Comparison, Task


@dataclass(frozen=True)
class Study:
    """The fine-tunings of one task: from each start, with each seed."""

    name: str
    config: str
    data: str | None
    options: Mapping[str, object]
    starts: Mapping[str, str]
    """Checkpoints by name, ``'none'`` for scratch."""
    seeds: int
    gpus: int
    folder: Path

    @property
    def task(self) -> Task:
        """What is measured."""
        return TASKS[self.name]

    def _read(self, options: Mapping[str, object]) -> Config:
        cfg = load_config(self.config, dict(options))
        with options_kept(cfg, options, f'--data {self.data}', ('val_', 'test_')):
            if self.data:
                set_data(cfg, self.data)
        return cfg

    @cached_property
    def all_options(self) -> dict[str, object]:
        """The options; in every start [CLS] and registers as in the pre-training."""
        cfg = self._read(self.options)
        (checkpoint, *_) = self.starts.values()
        match_prefix_tokens(cfg, checkpoint)
        tokens = {
            f'model.backbone.{option}': cfg.model.backbone[option]
            for option, default in PREFIX_TOKENS.items()
            if cfg.model.backbone.get(option, default) != default
        }
        return {**self.options, **tokens}

    @cached_property
    def cfg(self) -> Config:
        """The config, with the data in place."""
        return self._read(self.all_options)

    def check(self) -> None:
        """Fail now rather than later.

        Raises:
            FileNotFoundError: If data or a checkpoint is missing.
            ValueError: If a checkpoint does not fit the backbone, or the options are
                overridden by what every training is given.
        """
        for argument in ('work_dir', 'resume', 'load_from', 'randomness.seed'):
            if argument in self.options:
                raise ValueError(
                    f'--cfg-options {self.name}.{argument} is what this tool sets '
                    'itself for each training: leave it out'
                )
        cfg = self._read(self.options)
        check_layout(cfg)
        for start in self.starts.values():
            trial = copy.deepcopy(cfg)
            with options_kept(trial, self.options, f'{start} as a start', HOW_TO_READ):
                set_pretrained(trial, start)
        init_default_scope(self.cfg.default_scope)
        for start in self.starts.values():
            if start != 'none':
                given = self.cfg.model.backbone
                backbone = MODELS.build({**given, 'init_cfg': None})
                load_backbone(backbone, start, **pretrained_options(given))

    def jobs(self) -> list[Job]:
        """All trainings, the starts in turn, so that each seed is complete early."""
        return [
            self._job(start, seed)
            for seed in range(self.seeds)
            for start in self.starts
        ]

    def _job(self, start: str, seed: int) -> Job:
        folder = self.folder / start / f'seed-{seed}'
        options = {**self.all_options, 'randomness.seed': seed}
        by_epoch = 'max_epochs' in self.cfg.train_cfg
        launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node']
        arguments = [
            *([*launch, str(self.gpus)] if self.gpus > 1 else []),
            *('tools/train.py', self.config, '--pretrained', self.starts[start]),
            *(['--launcher', 'pytorch'] if self.gpus > 1 else []),
            *(['--data', self.data] if self.data else []),
            *('--work-dir', str(folder), '--resume'),
            *('--cfg-options', *(f'{key}={value}' for key, value in options.items())),
        ]
        return Job(
            name=f'{self.name}, {start}, seed {seed}',
            arguments=tuple(arguments),
            folder=folder,
            length=self.cfg.train_cfg['max_epochs' if by_epoch else 'max_iters'],
            unit='epoch' if by_epoch else 'iter',
        )

    def results(self) -> dict[str, dict[str, list[float]]]:
        """Metrics in percent, by start and by title; a value for each seed."""
        found = {}
        for start in self.starts:
            runs = [self._job(start, seed).read() for seed in range(self.seeds)]
            found[start] = {
                title: [run['metrics'][key] * self.task.percent for run in runs]
                for key, title in self.task.metrics.items()
            }
        return found

    def comparison(self) -> Comparison | None:
        """Of the deciding metric; None without a baseline."""
        title = self.task.metrics[self.task.headline]
        values = [metrics[title] for metrics in self.results().values()]
        return Comparison(*values) if len(values) == 2 else None

    def draw_curves(self, path: Path) -> None:
        """Draw the deciding metric over the training."""
        runs = {
            start: [
                {
                    step: value * self.task.percent
                    for step, value in read_scalars(self._job(start, seed).folder)[
                        self.task.headline
                    ].items()
                }
                for seed in range(self.seeds)
            ]
            for start in self.starts
        }
        unit = 'epoch' if 'max_epochs' in self.cfg.train_cfg else 'iteration'
        title = f'{self.task.metrics[self.task.headline]}, %'
        plot_seeds(runs, unit, title).savefig(path, dpi=150)

    @torch.no_grad()  # test_step alone keeps the graph of every prediction
    def draw_predictions(self, path: Path, number: int = 4) -> None:
        """Draw what the models of the first seed say of some validation images."""
        init_default_scope(self.cfg.default_scope)
        check_layout(self.cfg, ['val_dataloader'])  # it completes annotations
        take_shares(self.cfg.val_dataloader)
        dataset = DATASETS.build(self.cfg.val_dataloader.dataset)
        predictions, images = {}, []
        for start in self.starts:
            folder = self._job(start, 0).folder
            last = (folder / 'last_checkpoint').read_text(encoding='utf-8').strip()
            # By its name, as the folder may have moved.
            model = load_model(self.cfg, str(folder / Path(last).name))
            samples = [
                model.test_step(pseudo_collate([dataset[index]]))[0]
                for index in range(min(number, len(dataset)))
            ]
            images = [Image.open(s.img_path).convert('RGB') for s in samples]
            predictions[start] = samples
        classes = dataset.metainfo['classes']
        plot_predictions(images, predictions, classes).savefig(path, dpi=130)
