"""The smoothed position loss, against float64 loops."""

import math

import numpy as np
import pytest
import torch

from mmpospretrain.models.losses.position_loss import (
    PositionLoss,
    position_accuracy,
    position_loss,
    smoothing_map,
)
from mmpospretrain.models.positions import grid_distance

ROWS, COLS = GRID = (3, 5)
NUM = ROWS * COLS


def looped_map(sigma: float, power: int) -> np.ndarray:
    """Eq. 5 by the letter, row by row."""
    rows = []
    for i in range(NUM):
        row = []
        for j in range(NUM):
            distance = math.hypot(i // COLS - j // COLS, i % COLS - j % COLS) ** power
            row.append(math.exp(-distance / sigma**2))
        rows.append(np.array(row) / math.fsum(row))
    return np.stack(rows)


@pytest.mark.parametrize(('distance', 'power'), [('euclidean', 1), ('squared', 2)])
@pytest.mark.parametrize('sigma', [0.3, 1.0, 2.0])
def test_smoothing_map(distance, power, sigma):
    actual = smoothing_map(grid_distance(GRID, distance), sigma)
    np.testing.assert_allclose(actual.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(actual, looped_map(sigma, power), rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize('sigma', [0.0, torch.tensor(0.0), 1e-30, 1e-3])
def test_no_smoothing_is_one_hot(sigma):
    assert torch.equal(smoothing_map(grid_distance(GRID), sigma), torch.eye(NUM))


def looped_loss(logits, ids, weight, targets):
    """Eq. 8 over its weights."""
    loss = total = 0.0
    for b, v in np.ndindex(*ids.shape):
        z = logits[b, v]
        log_sum = math.log(math.fsum(math.exp(x) for x in z))
        cross_entropy = -math.fsum(
            targets[ids[b, v], j] * (z[j] - log_sum) for j in range(NUM)
        )
        loss += weight[b, v] * cross_entropy
        total += weight[b, v]
    return loss / total


@pytest.mark.parametrize('sigma', [0.0, 1.0])
@pytest.mark.parametrize('affinity', [False, True])
def test_loss(sigma, affinity):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 7, NUM))
    ids = np.stack([rng.permutation(NUM)[:7] for _ in range(2)])
    weight = (rng.random((2, 7)) < 0.6).astype(float)
    if affinity:
        weight = weight * rng.random((2, 7))
    targets = looped_map(sigma, 1) if sigma else np.eye(NUM)
    actual = PositionLoss(GRID, sigma=sigma)(
        torch.tensor(logits, dtype=torch.float32),
        torch.tensor(ids),
        torch.tensor(weight),
    )
    expected = looped_loss(logits, ids, weight, targets)
    assert actual.item() == pytest.approx(expected, rel=1e-5)


def test_loss_ignores_what_has_no_weight():
    logits = torch.randn(1, 4, NUM, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 2.0, 0.0]])
    position_loss(logits, torch.arange(4)[None], weight, torch.eye(NUM)).backward()
    assert (logits.grad[0, [1, 3]] == 0).all()
    assert (logits.grad[0, [0, 2]] != 0).all()


def test_loss_is_float32_for_half_logits():
    logits = torch.randn(2, 4, NUM)
    ids = torch.arange(4).expand(2, 4)
    targets = smoothing_map(grid_distance(GRID), 1.0)
    half = position_loss(logits.bfloat16(), ids, torch.ones(2, 4), targets)
    full = position_loss(logits.bfloat16().float(), ids, torch.ones(2, 4), targets)
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


def test_accuracy():
    ids = torch.tensor([[4, 2, 0], [1, 3, 5]])
    logits = torch.nn.functional.one_hot(
        torch.tensor([[4, 1, 0], [1, 3, 2]]), 6
    ).float()
    counted = torch.tensor([[True, True, False], [True, False, True]])
    assert position_accuracy(logits, ids, counted).item() == pytest.approx(50.0)


def test_bad_options():
    with pytest.raises(ValueError, match='sigma must be at least 0, got -1'):
        PositionLoss(GRID, sigma=-1)
    with pytest.raises(ValueError, match='sigma must be at least 0, got nan'):
        PositionLoss(GRID, sigma=float('nan'))
    with pytest.raises(ValueError, match="got 'l1'"):
        PositionLoss(GRID, distance='l1')


def test_sigma_stays_out_of_the_checkpoint():
    assert PositionLoss(GRID).state_dict() == {}
