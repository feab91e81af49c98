"""Hooks, on a stub of a runner."""

import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from mmpospretrain.engine.hooks import (
    FiniteGuardHook,
    ScalarScheduleHook,
    StepSeedHook,
    ThroughputHook,
    step_seed,
)
from mmpospretrain.models.losses.position_loss import PositionLoss


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Module()
        self.part.register_buffer('sigma', torch.tensor(0.5))
        self.part.momentum = 0.9


@pytest.fixture
def runner(tmp_path):
    hub = MessageHub.get_instance(str(tmp_path))
    return SimpleNamespace(
        model=Model(),
        optim_wrapper=SimpleNamespace(_accumulative_counts=1),
        iter=0,
        max_iters=10,
        epoch=0,
        seed=0,
        work_dir=str(tmp_path),
        message_hub=hub,
    )


def test_schedule_follows_the_iteration(runner):
    """Eq. 7 of DropPos: σ_t = t / T (σ_T - σ_0) + σ_0; nothing else is remembered."""
    hook = ScalarScheduleHook('part.sigma', start=2.0, end=0.0)
    hook.before_train(runner)
    for iteration in (0, 3, 7, 9, 4):
        runner.iter = iteration
        hook.before_train_iter(runner, 0)
        expected = iteration / 10 * (0 - 2.0) + 2.0
        assert runner.model.part.sigma.item() == pytest.approx(expected)
    assert hook.value(10, 10) == 0


def test_schedule_of_a_number(runner):
    hook = ScalarScheduleHook('part.momentum', start=0.992, end=1.0, shape='cosine')
    hook.before_train(runner)
    runner.iter = 5
    hook.before_train_iter(runner, 0)
    assert runner.model.part.momentum == pytest.approx(0.996)
    assert [hook.value(t, 10) for t in (0, 10)] == pytest.approx([0.992, 1.0])


def test_schedule_errors(runner):
    with pytest.raises(ValueError, match=r"\('linear', 'cosine'\), got 'step'"):
        ScalarScheduleHook('part.sigma', 1, 0, shape='step')
    for target in ('part.sigmas', 'parts.sigma'):
        with pytest.raises(ValueError, match=f"Model has no '{target}'"):
            ScalarScheduleHook(target, 1, 0).before_train(runner)
    runner.model.part = PositionLoss((2, 3))
    for start, end in ((-1, 0), (1, -0.5)):
        with pytest.raises(ValueError, match='sigma must be at least 0, got -'):
            ScalarScheduleHook('part.sigma', start, end).before_train(runner)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


def test_what_ranks_share_follows_from_the_step_alone(runner, monkeypatch):
    hook = StepSeedHook()
    hook.before_train_iter(runner, 0)  # a model that shares nothing
    runner.model.shared_seed = None
    seeds = {}
    for rank in (0, 1):
        monkeypatch.setattr(step_seed, 'get_rank', partial(int, rank))
        for runner.iter in (0, 1):
            hook.before_train_iter(runner, 0)
            seeds[rank, runner.iter] = runner.model.shared_seed, torch.rand(1).item()
    for iteration in (0, 1):
        (shared, own), (shared_too, other) = seeds[0, iteration], seeds[1, iteration]
        assert shared == shared_too
        assert own != other
    assert seeds[0, 0][0] != seeds[0, 1][0]


def test_randomness_follows_from_the_step(runner):
    hook = StepSeedHook()
    draws = {}
    for epoch in (0, 1):
        runner.epoch = epoch
        hook.before_train_epoch(runner)
        draws[epoch] = draw()
        for runner.iter in (2 * epoch, 2 * epoch + 1):
            hook.before_train_iter(runner, 0)
            draws['iteration', runner.iter] = torch.rand(1).item()
    assert len(set(draws.values())) == len(draws)

    random.seed(99), np.random.seed(99), torch.manual_seed(99)  # noqa: NPY002
    runner.epoch, runner.iter = 1, 3  # "resumed" into the last step
    hook.before_train_epoch(runner)
    assert draw() == draws[1]
    hook.before_train_iter(runner, 0)
    assert torch.rand(1).item() == draws['iteration', 3]


def test_ranks_and_seeds_differ(runner, monkeypatch):
    hook = StepSeedHook()
    values = set()
    for rank in (0, 1):
        for runner.seed in (0, 1):
            monkeypatch.setattr(
                'mmpospretrain.engine.hooks.step_seed.get_rank', lambda rank=rank: rank
            )
            hook.before_train_iter(runner, 0)
            values.add(torch.rand(1).item())
    assert len(values) == 4


def test_throughput(runner):
    runner.message_hub.update_scalar('train/time', 0.25)
    views = [torch.zeros(12, 3, 4, 4), torch.zeros(24, 3, 2, 2)]  # of six images
    batch = {'inputs': views, 'data_samples': [None] * 6}
    ThroughputHook().after_train_iter(runner, 0, batch, {})
    speed = runner.message_hub.get_scalar('train/images_per_s').current()
    assert speed == pytest.approx(24)
    if not torch.cuda.is_available():
        memory = runner.message_hub.get_scalar('train/memory').current()
        assert 50 < memory < 100_000  # MB of a process that has loaded PyTorch


@pytest.mark.parametrize('value', [float('nan'), float('inf'), torch.tensor(torch.nan)])
def test_guard_stops_on_a_loss(runner, value):
    runner.iter = 41
    message = r'loss_a is (nan|inf) at iteration 42'
    with pytest.raises(FloatingPointError, match=message):
        FiniteGuardHook().after_train_iter(
            runner, 0, None, {'loss': torch.tensor(1.0), 'loss_a': value}
        )


def test_guard_stops_before_a_checkpoint(runner):
    hook = FiniteGuardHook()
    state = {'good': torch.ones(3), 'count': torch.tensor(1), 'bad': torch.ones(2)}
    hook.before_save_checkpoint(runner, {'state_dict': state})
    state['bad'][1] = torch.inf
    with pytest.raises(FloatingPointError, match='weight bad has NaN or infinite'):
        hook.before_save_checkpoint(runner, {'state_dict': state})
