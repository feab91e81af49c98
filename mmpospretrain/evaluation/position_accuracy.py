"""Does the model know where patches belong?"""

import numpy as np
from mmengine.evaluator import BaseMetric

from mmpospretrain.registry import METRICS

from ..models.selfsup.position_predictor import Reconstruction
from .position_table import count_correct


@METRICS.register_module()
class PositionAccuracy(BaseMetric):
    """Top-1 accuracy in percent over all patches whose position was dropped.

    Where some patches are hidden from the others (MP3), also ``context_top1`` and
    ``masked_top1``, over those that all could see, and over the others. Beside them
    ``chance``, what guessing would have: 100 / places of the grid.

    For models whose ``predict`` fills the fields of a :class:`Reconstruction` into the
    data samples, as ``position_ids`` and so on: DropPos and MP3.
    """

    default_prefix = 'position'

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Count the patches of every image, and those put in place."""
        for sample in data_samples:
            fields = (sample[f'position_{name}'] for name in Reconstruction._fields)
            self.results.append(count_correct(Reconstruction(*fields)).tolist())
            self.chance = 100 / sample['position_places']

    def compute_metrics(self, results: list[list[list[int]]]) -> dict[str, float]:
        """Returns accuracies in percent."""
        counts = np.array(results).sum(axis=0)  # (groups, 2)
        top1, context, masked = 100 * counts[:, 0] / np.maximum(counts[:, 1], 1)
        if not counts[2, 1]:
            return dict(top1=top1, chance=self.chance)
        return dict(
            top1=top1, context_top1=context, masked_top1=masked, chance=self.chance
        )
