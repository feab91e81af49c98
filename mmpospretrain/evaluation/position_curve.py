"""How well are positions found, the fewer patches may be looked at? Fig. 3 of MP3."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..models.selfsup.mp3 import MP3
from .position_table import GROUPS, count_cases

MASK_RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class PositionCurve:
    """Top-1 position accuracy in percent by η."""

    accuracy: dict[str, dict[float, float]]
    """Of ``all``, ``context`` and ``masked`` patches. Where there are none, as masked
    ones at η = 0, the η is left out."""
    mask_ratios: tuple[float, ...]
    chance: float
    """Accuracy of guessing, 100 / N."""
    num_images: int

    def to_dict(self) -> dict:
        """Plain values, for JSON: a list by η for each group, None where left out."""
        return dict(
            mask_ratios=self.mask_ratios,
            accuracy={
                group: [by_ratio.get(ratio) for ratio in self.mask_ratios]
                for group, by_ratio in self.accuracy.items()
            },
            chance=self.chance,
            num_images=self.num_images,
        )


def position_curve(
    model: MP3,
    loader: Iterable[dict],
    mask_ratios: Sequence[float] = MASK_RATIOS,
    seed: int = 0,
) -> PositionCurve:
    """Measure top-1 accuracy over the patches of a data set at several η.

    At a larger η the context of an image is a part of that at a smaller one.

    Args:
        model, loader, seed: As for :func:`count_cases`, which says what is raised.
        mask_ratios: η.
    """
    counts, num_images = count_cases(model, loader, [(r,) for r in mask_ratios], seed)
    accuracy = {
        group: {
            ratio: float(100 * correct / total)
            for ratio, (correct, total) in zip(mask_ratios, by_ratio, strict=True)
            if total
        }
        for group, by_ratio in zip(GROUPS, counts.swapaxes(0, 1), strict=True)
    }
    rows, cols = model.backbone.grid_size
    return PositionCurve(accuracy, tuple(mask_ratios), 100 / (rows * cols), num_images)
