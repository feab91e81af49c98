"""Centers of the teacher's targets move with the optimizer, like the teacher."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmpospretrain.engine.hooks import TeacherHook
from mmpospretrain.models.losses.distillation import TeacherTargets

K = 5


@pytest.fixture
def batches():
    return torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """A student and a teacher with two centers and one target that has none."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.student = nn.Linear(3, K)
        self.teacher = nn.Linear(3, K).requires_grad_(False)
        self.one = TeacherTargets(K, 'centering', temperature=0.5, momentum=0.9)
        self.more = nn.ModuleDict(
            dict(
                centered=TeacherTargets(K, 'centering', temperature=0.5, momentum=0.5),
                even=TeacherTargets(K, 'sinkhorn', temperature=0.5),
            )
        )

    def loss(self, x):
        answers, prototypes = self.teacher(x), torch.eye(K)
        targets = self.one(answers, prototypes).dense()
        targets = targets + self.more['centered'](2 * answers, prototypes).dense()
        return -(targets * self.student(x).log_softmax(-1)).sum(-1).mean()


def run(batches, parts):
    """Centers after each iteration, and the model, with a batch in so many parts."""
    model = Model()
    optimizer = torch.optim.SGD(model.student.parameters(), lr=0.1)
    iterations = [part for batch in batches for part in batch.chunk(parts)]
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=OptimWrapper(optimizer, accumulative_counts=parts),
        iter=0,
        max_iters=len(iterations),
        message_hub=MessageHub.get_instance('centers'),
    )
    runner.optim_wrapper.initialize_count_status(model, 0, len(iterations))
    hook = TeacherHook('teacher', 'student', start=0.5, end=0.5)
    hook.before_train(runner)
    centers = []
    for runner.iter, part in enumerate(iterations):
        hook.before_train_iter(runner, runner.iter)
        runner.optim_wrapper.update_params(model.loss(part))
        centers.append(model.one.center.center.clone())
    hook.after_train(runner)
    model.loss(batches[0])
    optimizer.step()
    assert torch.equal(model.one.center.center, centers[-1])
    return centers, model


def test_they_move_once_in_a_step(batches):
    """A batch in two parts moves them once, as far as the whole batch does."""
    whole, model = run(batches, parts=1)
    halves, other = run(batches, parts=2)
    assert torch.equal(halves[0], torch.zeros(K))
    for step in range(3):
        torch.testing.assert_close(halves[2 * step + 1], whole[step])
    for step in range(2):
        assert torch.equal(halves[2 * step + 2], halves[2 * step + 1])
    torch.testing.assert_close(other.state_dict(), model.state_dict())


def test_every_center_moves(batches):
    """To a share of the mean of the teacher's answers, in float64."""
    teacher = Model().teacher
    weight, bias = (p.double().numpy() for p in (teacher.weight, teacher.bias))
    mean = np.mean([weight @ row + bias for row in batches[0].double().numpy()], axis=0)
    _, model = run(batches[:1], parts=1)
    np.testing.assert_allclose(model.one.center.center, 0.1 * mean, rtol=1e-5)
    center = model.more['centered'].center.center
    np.testing.assert_allclose(center, 0.5 * 2 * mean, rtol=1e-5)


@pytest.mark.parametrize('fused', [False, True])
def test_a_gradient_scaler_skips_them(batches, fused):
    """What was seen in a skipped step counts in the next."""
    model = Model()
    optimizer = torch.optim.AdamW(model.student.parameters(), lr=0.1, fused=fused)
    hook = TeacherHook('teacher', 'student', start=0.5, end=0.5)
    hook.before_train(
        SimpleNamespace(model=model, optim_wrapper=SimpleNamespace(optimizer=optimizer))
    )
    hook.momentum = 0.5
    scaler = torch.amp.GradScaler('cpu')
    expected = 0.1 * model.teacher(batches[:2].flatten(0, 1)).mean(0)
    centers = []
    for batch, factor in zip(batches[:2], (math.inf, 1.0), strict=True):
        optimizer.zero_grad()
        scaler.scale(model.loss(batch) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        centers.append(model.one.center.center.clone())
    assert torch.equal(centers[0], torch.zeros(K))
    torch.testing.assert_close(centers[1], expected)
