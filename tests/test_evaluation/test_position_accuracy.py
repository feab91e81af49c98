"""Accuracies of a validation, counted by hand."""

import pytest
import torch

from mmpospretrain.evaluation import PositionAccuracy


def sample(right: list[int], dropped: list[int], context: list[int]) -> dict:
    """Four patches; those that are ``right`` are predicted where they belong."""
    ids = torch.tensor([7, 3, 5, 1])
    return dict(
        position_ids=ids,
        position_places=8,
        position_predicted=torch.where(torch.tensor(right).bool(), ids, 0),
        position_dropped=torch.tensor(dropped).bool(),
        position_context=torch.tensor(context).bool(),
    )


def evaluate(*samples: dict) -> dict[str, float]:
    metric = PositionAccuracy()
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples))


def test_anchors_do_not_count():
    """DropPos: every visible patch is context, and some know where they are."""
    result = evaluate(
        sample([1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]),
        sample([1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]),
    )
    assert result == {'position/top1': 75.0, 'position/chance': 12.5}


def test_masked_patches_beside_context():
    """MP3: no patch knows where it is, and some are seen by nobody."""
    result = evaluate(
        sample([1, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]),
        sample([1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]),
    )
    assert result == {
        'position/top1': pytest.approx(100 * 3 / 8),
        'position/context_top1': 100.0,
        'position/masked_top1': pytest.approx(100 / 6),
        'position/chance': 12.5,
    }
