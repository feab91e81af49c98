"""What a difference between two starts is worth."""

import pytest

from mmpospretrain.evaluation.transfer import (
    RECIPES,
    TASKS,
    Comparison,
    overall,
    spread,
)


def test_difference_and_its_error():
    """By hand: means 22 and 19; variances 1 and 4 over three seeds each."""
    comparison = Comparison([21.0, 22.0, 23.0], [17.0, 19.0, 21.0])
    assert comparison.difference == pytest.approx(3)
    assert comparison.standard_error == pytest.approx((1 / 3 + 4 / 3) ** 0.5)
    assert comparison.verdict() == 'ahead'


@pytest.mark.parametrize(
    ('first', 'second', 'verdict'),
    [
        ([20.0, 21.0], [20.5, 20.6], 'no clear difference'),
        ([19.0, 19.1], [22.0, 22.1], 'behind'),
        ([5.0], [1.0], 'one seed'),
        ([5.0, 5.0], [5.0, 5.0], 'no clear difference'),
    ],
)
def test_verdict(first, second, verdict):
    assert Comparison(first, second).verdict() == verdict


AHEAD = Comparison([22.0, 22.1], [19.0, 19.1])
BEHIND = Comparison([19.0, 19.1], [22.0, 22.1])
UNCLEAR = Comparison([20.0, 21.0], [20.5, 20.6])


@pytest.mark.parametrize(
    ('comparisons', 'outcome'),
    [
        ([AHEAD], 'better'),
        ([AHEAD, UNCLEAR, None], 'better'),
        ([BEHIND, UNCLEAR], 'worse'),
        ([AHEAD, BEHIND], 'unclear'),
        ([UNCLEAR], 'unclear'),
        ([Comparison([1.0], [5.0])], 'unclear'),  # worse, but of one seed
        ([Comparison([5.0], [1.0])], 'unclear'),
        ([None], 'unclear'),
    ],
)
def test_tasks_together(comparisons, outcome):
    assert overall(comparisons) == outcome


def test_one_seed_has_no_spread():
    assert Comparison([5.0], [1.0]).standard_error is None
    assert spread([5.04]) == '5.0'
    assert spread([20.0, 22.0]) == '21.0 ± 1.4'


def test_recipes_know_every_task():
    assert all(recipe.keys() == TASKS.keys() for recipe in RECIPES.values())
