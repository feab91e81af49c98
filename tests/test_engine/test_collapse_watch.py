"""A value that leaves its range is told, with what to do."""

from types import SimpleNamespace

import pytest
import torch

from mmpospretrain.engine.hooks import CollapseWatchHook


def watch(values, **limits):
    """What the hook has to say of values in turn, as MMEngine hands them over."""
    told = []
    logger = SimpleNamespace(warning=told.append)
    hook = CollapseWatchHook('spread', interval=3, **limits)
    for iteration, value in enumerate(values):
        runner = SimpleNamespace(iter=iteration, logger=logger)
        outputs = {'loss': torch.tensor(7.0), 'spread': torch.tensor(value)}
        hook.after_train_iter(runner, 0, outputs=outputs)
    return told


def test_told_once_in_a_while():
    told = watch([0.5, 0.1, 0.05, 0.04, 0.03, 0.02, 0.5], below=0.1)
    assert [text.partition(':')[0] for text in told] == [
        'Collapse? spread is 0.05 at iteration 3, below 0.1',
        'Collapse? spread is 0.02 at iteration 6, below 0.1',
    ]
    assert all('Lower the learning rate, or raise' in text for text in told)


def test_two_limits():
    told = watch([0.5, 0.9, 0.95, 0.5, 0.5, 0.1, 0.05, 0.95], below=0.1, above=0.9)
    assert [text.partition(':')[0] for text in told] == [
        'Collapse? spread is 0.95 at iteration 3, above 0.9',
        'Collapse? spread is 0.05 at iteration 7, below 0.1',
    ]


def test_a_limit_above_alone():
    assert watch([-5.0, 0.0, 0.9], above=0.9) == []
    assert len(watch([0.91], above=0.9)) == 1


@pytest.mark.parametrize(
    'limits', [{}, dict(below=0.5, above=0.5), dict(below=float('nan'))]
)
def test_no_range(limits):
    with pytest.raises(ValueError, match="CollapseWatchHook: 'spread' needs a limit"):
        CollapseWatchHook('spread', **limits)


def test_a_value_that_is_not_there():
    hook = CollapseWatchHook('target_std', below=0.1)
    with pytest.raises(ValueError, match=r"logs no 'target_std', but \['loss'\]"):
        hook.after_train_iter(None, 0, outputs={'loss': 1.0})
