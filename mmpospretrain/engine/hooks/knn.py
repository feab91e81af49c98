"""Is it learning anything? Nearest neighbours while pre-training."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from torch import nn
from torch.utils.data import Dataset, Subset

from mmpospretrain.checks import check_at_least
from mmpospretrain.datasets.skipping import skip_broken_images, take_shares
from mmpospretrain.evaluation.features import (
    Features,
    check_same_classes,
    extract_features,
    frozen_encoder,
)
from mmpospretrain.evaluation.frozen import chance, knn_accuracy
from mmpospretrain.registry import HOOKS
from mmpospretrain.zoo.pretrained import evaluated_part

from .model_access import find, unwrapped


@HOOKS.register_module()
class KNNHook(Hook):
    """Log the kNN accuracy of frozen features on a small labelled set.

    Average-pooled features of the last layer, as ``tools/linear_probe.py --knn``.
    Labels are used for this measure alone. The main process does it while others wait,
    so that the set should be small.

    Args:
        train: Config of a data set with labels, whose images are the neighbours.
        val: Config of a data set with labels, whose images are classified.
        backbone: Dotted path of the backbone in the model; by default a
            ``target_encoder`` if there is one, else ``backbone``.
        k: Number of neighbours, or all images if there are fewer.
        interval: Measure after every so many epochs, and after the last.
        batch_size: Images at once.
        num_workers: Processes that read images.

    Raises:
        ValueError: If a number is below 1, or, when training starts, if the model has
            no such backbone, images have no labels or no pipeline that packs them, or
            the two sets have other classes.
        FileNotFoundError: When training starts, if there is no such data.
    """

    priority = 'LOW'

    def __init__(
        self,
        train: Mapping[str, Any],
        val: Mapping[str, Any],
        backbone: str | None = None,
        k: int = 20,
        interval: int = 1,
        batch_size: int = 64,
        num_workers: int = 2,
    ) -> None:
        check_at_least('k', k, 1)
        check_at_least('interval', interval, 1)
        self.configs = train, val
        self.backbone = backbone
        self.k = k
        self.interval = interval
        self.loading = dict(batch_size=batch_size, num_workers=num_workers)

    def before_train(self, runner: Runner) -> None:
        """Find backbone and data, so that mistakes show before the first step."""
        model = unwrapped(runner.model)
        path = self.backbone or evaluated_part(model) or 'backbone'
        self._backbone = find(model, path, self)
        frozen_encoder(self._backbone)
        if not is_main_process():
            return
        configs = [dict(dataset=deepcopy(config)) for config in self.configs]
        shares = [take_shares(config) for config in configs]
        self._datasets = [DATASETS.build(config['dataset']) for config in configs]
        for name, dataset, share in zip(
            ('train', 'val'), self._datasets, shares, strict=True
        ):
            skip_broken_images(dataset, f'{name} of KNNHook in custom_hooks', share)
        check_same_classes(*self._datasets, 'val of KNNHook')
        for name, dataset in zip(('train', 'val'), self._datasets, strict=True):
            if not {'inputs', 'data_samples'} <= {*dataset[0]}:
                raise ValueError(
                    f'{name} of KNNHook needs a pipeline that ends with PackInputs, '
                    f'got {dataset.pipeline}'
                )
            # A loader draws a number; training goes on as it would without.
            with torch.random.fork_rng(devices=[]):
                self._extract(model, Subset(dataset, [0]), num_workers=0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure."""
        last = runner.epoch + 1 == runner.max_epochs
        if not (last or self.every_n_epochs(runner, self.interval)):
            return
        if not is_main_process():
            return
        model = unwrapped(runner.model)
        train, val = (self._extract(model, dataset) for dataset in self._datasets)
        k = min(self.k, len(train.labels))
        accuracy = knn_accuracy(train, val, k)
        epoch = runner.epoch + 1
        runner.logger.info(
            f'Epoch(knn) [{epoch}]  knn/top1: {accuracy:.2f}, of {len(val.labels)} '
            f'images by {k} neighbours of {len(train.labels)}; the most '
            f'frequent class is {chance(val.labels):.2f}'
        )
        runner.visualizer.add_scalar('knn/top1', accuracy, epoch)  # as of a validation

    def _extract(self, model: nn.Module, dataset: Dataset, **options) -> Features:
        """Features of the last layer."""
        encoder = frozen_encoder(self._backbone)
        return extract_features(
            encoder,
            model.data_preprocessor,
            dataset,
            [encoder.num_layers - 1],
            **{**self.loading, **options},
        )
