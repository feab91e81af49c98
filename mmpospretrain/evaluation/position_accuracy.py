"""Does the model know where patches belong?"""

from mmengine.evaluator import BaseMetric

from mmpospretrain.registry import METRICS


@METRICS.register_module()
class PositionAccuracy(BaseMetric):
    """Top-1 accuracy in percent over all patches whose position was dropped.

    For models whose ``predict`` fills ``position_ids``, ``position_dropped`` and
    ``position_predicted`` (V each) into the data samples, as :class:`DropPos` does.
    """

    default_prefix = 'position'

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Count the dropped patches of every image, and those put in place."""
        for sample in data_samples:
            dropped = sample['position_dropped']
            correct = (sample['position_predicted'] == sample['position_ids']) & dropped
            self.results.append((int(correct.sum()), int(dropped.sum())))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Returns ``top1`` in percent."""
        correct, total = map(sum, zip(*results, strict=True))
        return {'top1': 100 * correct / total}
