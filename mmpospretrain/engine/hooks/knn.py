"""Is it learning anything? Nearest neighbours while pre-training."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from mmpospretrain.checks import check_at_least
from mmpospretrain.evaluation.features import extract_features, frozen_encoder
from mmpospretrain.evaluation.frozen import knn_accuracy
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
            no such backbone.
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
        if is_main_process():
            self._datasets = [DATASETS.build(config) for config in self.configs]

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure."""
        last = runner.epoch + 1 == runner.max_epochs
        if not (last or self.every_n_epochs(runner, self.interval)):
            return
        if not is_main_process():
            return
        encoder = frozen_encoder(self._backbone)
        train, val = (
            extract_features(
                encoder,
                unwrapped(runner.model).data_preprocessor,
                dataset,
                [encoder.num_layers - 1],
                **self.loading,
            )
            for dataset in self._datasets
        )
        k = min(self.k, len(train.labels))
        accuracy = knn_accuracy(train, val, k)
        epoch = runner.epoch + 1
        runner.logger.info(
            f'Epoch(knn) [{epoch}]  knn/top1: {accuracy:.2f}, of {len(val.labels)} '
            f'images by {k} neighbours of {len(train.labels)}'
        )
        runner.visualizer.add_scalar('knn/top1', accuracy, epoch)  # as of a validation
