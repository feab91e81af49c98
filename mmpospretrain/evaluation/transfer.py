"""Is a pre-trained backbone better than another start? Fine-tunings, compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Literal


@dataclass(frozen=True)
class Task:
    """Something to fine-tune for, and what MMEngine logs of it."""

    metrics: Mapping[str, str]
    """Titles of metrics by their names in the log; the first one decides."""
    percent: float = 1.0
    """What the metrics are multiplied by to be in percent."""

    @property
    def headline(self) -> str:
        """Name of the deciding metric in the log."""
        return next(iter(self.metrics))


TASKS = {
    'detection': Task(
        {
            'coco/bbox_mAP': 'box AP',
            'coco/bbox_mAP_50': 'box AP50',
            'coco/segm_mAP': 'mask AP',
            'coco/segm_mAP_50': 'mask AP50',
        },
        percent=100,
    ),
    'segmentation': Task({'mIoU': 'mIoU', 'mAcc': 'mAcc', 'aAcc': 'aAcc'}),
    'classification': Task({'accuracy/top1': 'top-1 accuracy'}),
}

_CONFIGS = 'configs/transfer'
_IN1K = f'{_CONFIGS}/classification/vit-base-p16_8xb128-coslr-100e_in1k.py'
# The config of each task: the embedded data set, and the papers'.
RECIPES = {
    'photoshapes': {
        'detection': f'{_CONFIGS}/detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py',
        'segmentation': f'{_CONFIGS}/segmentation/upernet_vit-tiny-p16_photoshapes.py',
        'classification': f'{_CONFIGS}/classification/vit-tiny-p16_photoshapes.py',
    },
    'droppos': {
        'detection': f'{_CONFIGS}/detection/mask-rcnn_vitdet-base-p16_8xb2-88k_coco.py',
        'segmentation': f'{_CONFIGS}/segmentation/'
        'upernet_vit-base-p16_8xb2-80k_ade20k.py',
        'classification': _IN1K,
    },
    'posfield': {
        'detection': f'{_CONFIGS}/detection/mask-rcnn_vitdet-base-p16_8xb8-22k_coco.py',
        'segmentation': f'{_CONFIGS}/segmentation/'
        'segmenter-linear_vit-base-p16_8xb2-160k_ade20k.py',
        'classification': _IN1K,
    },
}


@dataclass(frozen=True)
class Comparison:
    """A metric of two starts, over the same seeds, in percent."""

    first: Sequence[float]
    second: Sequence[float]

    @property
    def difference(self) -> float:
        """First minus second, of the means."""
        return mean(self.first) - mean(self.second)

    @property
    def standard_error(self) -> float | None:
        """Of the difference, None for less than two seeds."""
        if min(len(self.first), len(self.second)) < 2:
            return None
        variances = (stdev(v) ** 2 / len(v) for v in (self.first, self.second))
        return sum(variances) ** 0.5

    def verdict(self) -> str:
        """``'ahead'``, ``'behind'``, ``'no clear difference'``, or ``'one seed'``.

        Clear is more than two standard errors, and one seed has none.
        """
        error = self.standard_error
        if error is None:
            return 'one seed'
        if abs(self.difference) <= 2 * error:
            return 'no clear difference'
        return 'ahead' if self.difference > 0 else 'behind'


def overall(
    comparisons: Iterable[Comparison | None],
) -> Literal['better', 'worse', 'unclear']:
    """What several tasks say together; None is a task without a baseline.

    ``'unclear'`` too where one task is clearly ahead and another clearly behind.
    """
    verdicts = {comparison.verdict() for comparison in comparisons if comparison}
    found = verdicts & {'ahead', 'behind'}
    if found == {'ahead'}:
        return 'better'
    return 'worse' if found == {'behind'} else 'unclear'


def spread(values: Sequence[float]) -> str:
    """``'21.8 ± 0.2'``: mean and standard deviation, or the one value."""
    if len(values) < 2:
        return f'{values[0]:.1f}'
    return f'{mean(values):.1f} ± {stdev(values):.1f}'
