"""Losses of a student and its teacher: float64 references, and two processes as one."""

from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from mmpospretrain.models.losses import distillation
from mmpospretrain.models.losses.distillation import (
    Center,
    TeacherTargets,
    cross_entropy,
    dino_loss,
    ibot_loss,
    koleo_loss,
    sinkhorn,
)

K = 7


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numpy_cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> float:
    """Of one token."""
    return -(
        targets.double().numpy()
        * np.log(softmax(logits.double().numpy() / temperature))
    ).sum()


def random_targets(*shape: int) -> Tensor:
    return torch.randn(*shape, K).softmax(-1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_sinkhorn():
    """Row by row and column by column in float64."""
    logits = torch.randn(12, K)
    shares = np.exp(logits.double().numpy() / 0.5)
    for _ in range(3):
        for column in range(K):
            shares[:, column] /= shares[:, column].sum()
        for row in range(12):
            shares[row] /= shares[row].sum()
    targets = sinkhorn(logits, 0.5)
    np.testing.assert_allclose(targets, shares, rtol=1e-5)
    assert targets.dtype == torch.float32


def test_sinkhorn_in_place():
    logits = torch.randn(12, K)
    kept = logits.clone()
    targets = sinkhorn(logits, 0.5)
    assert torch.equal(logits, kept)
    overwritten = sinkhorn(logits, 0.5, inplace=True)
    assert overwritten.data_ptr() == logits.data_ptr()
    assert torch.equal(overwritten, targets)
    half = kept.bfloat16()
    sinkhorn(half, 0.5, inplace=True)  # has to be copied anyway
    assert torch.equal(half, kept.bfloat16())


def test_sinkhorn_spreads_evenly():
    """All want the first prototype, and it cannot be."""
    logits = torch.rand(300, K) + torch.tensor([5.0] + [0] * (K - 1))
    targets = sinkhorn(logits, 0.2, iterations=50)
    torch.testing.assert_close(targets.sum(1), torch.ones(300))
    torch.testing.assert_close(
        targets.sum(0), torch.full((K,), 300 / K), rtol=1e-3, atol=0
    )


def test_sinkhorn_in_extremes():
    """Logits far apart, in half precision too, give no NaN."""
    logits = torch.zeros(4, K, dtype=torch.bfloat16)
    logits[0, 0], logits[1] = 60, -60
    targets = sinkhorn(logits, 0.04)
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    wild = sinkhorn(10 * torch.randn(8, 64), 0.04)
    torch.testing.assert_close(wild.sum(1), torch.ones(8))
    assert sinkhorn(torch.zeros(0, K), 0.04).shape == (0, K)


def test_center():
    """Over the steps, with a batch in two parts in the second."""
    center = Center(K, momentum=0.9)
    batches = torch.randn(3, 8, K)
    expected = np.zeros(K)
    for step, batch in enumerate(batches):
        parts = batch.split(4) if step == 1 else [batch]
        for part in parts:
            targets = center(part, 0.04)
            wanted = softmax((part.double().numpy() - expected) / 0.04)
            np.testing.assert_allclose(targets, wanted, rtol=1e-3, atol=1e-6)
        center.follow()
        expected = 0.9 * expected + 0.1 * batch.double().numpy().mean(0)
        np.testing.assert_allclose(center.center, expected, rtol=1e-4, atol=1e-6)
    before = center.center.clone()
    center.follow()  # nothing was seen
    center.eval()(batches[0], 0.04)
    center.follow()  # nor in evaluation
    assert torch.equal(center.center, before)
    assert set(center.state_dict()) == {'center'}


@pytest.mark.parametrize('views', [2, 5])
def test_dino(views):
    logits, targets = torch.randn(views, 3, K), random_targets(2, 3)
    terms = [
        numpy_cross_entropy(logits[s, image], targets[t, image], 0.1)
        for s in range(views)
        for t in range(2)
        if s != t
        for image in range(3)
    ]
    assert len(terms) == 3 * (2 * views - 2)
    loss = dino_loss(logits, torch.eye(K), targets)
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_ibot():
    logits, targets = torch.randn(6, K), random_targets(6)
    per_patch = torch.tensor([0.5, 0.5, 0.25, 0.25, 0.25, 0.25])  # images of 2 and 4
    weight = per_patch / 3  # and one of none
    losses = [
        numpy_cross_entropy(a, b, 0.1) for a, b in zip(logits, targets, strict=True)
    ]
    expected = (np.mean(losses[:2]) + np.mean(losses[2:]) + 0) / 3
    found = ibot_loss(logits, torch.eye(K), targets, weight)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert ibot_loss(logits[:0], torch.eye(K), targets[:0], weight[:0]).item() == 0


@pytest.mark.parametrize('chunk', [1, 4 * K, 1000])
def test_gradient_of_cross_entropy(monkeypatch, chunk):
    """Against PyTorch's own, chunk by chunk, and by finite differences."""
    monkeypatch.setitem(distillation.CHUNK, 'cpu', chunk)
    answers = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    prototypes = torch.randn(K, 3, dtype=torch.float64, requires_grad=True)
    targets, weight = 2 * random_targets(10).double(), torch.rand(10).double()
    loss = cross_entropy(answers, prototypes, targets, weight, 0.3)
    logits = answers @ prototypes.T / 0.3
    plain = -(weight[:, None] * targets * logits.log_softmax(1)).sum()
    torch.testing.assert_close(loss, plain)
    inputs = (answers, prototypes)
    found = torch.autograd.grad(3 * loss, inputs)
    for a, b in zip(found, torch.autograd.grad(3 * plain, inputs), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(
        lambda a, b: cross_entropy(a, b, targets, weight, 0.3), inputs
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_cross_entropy_in_mixed_precision(dtype):
    """Products in half precision, which loses no weights, however small they are."""
    answers = F.normalize(torch.randn(32, 16), dim=1).requires_grad_()
    prototypes = F.normalize(torch.randn(4096, 16), dim=1).requires_grad_()
    targets = torch.randn(32, 4096).softmax(-1)
    weight = torch.rand(32) / (256 * 59)
    results = []
    for enabled in (False, True):
        with torch.autocast('cpu', dtype, enabled=enabled):
            loss = cross_entropy(answers, prototypes, targets, weight, 0.1)
        results.append((loss, *torch.autograd.grad(loss, (answers, prototypes))))
    for full, mixed in zip(*results, strict=True):
        assert mixed.dtype == torch.float32
        assert not torch.equal(full, mixed)
        assert (mixed - full).norm() < 0.02 * full.norm()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_sinkhorn_in_mixed_precision(dtype):
    """A teacher that leans to one prototype gives factors of any size."""
    logits = 0.2 * torch.rand(16, 512)
    logits[:, 0] += 0.8
    with torch.autocast('cpu', dtype):
        mixed = sinkhorn(logits, 0.04)
    assert torch.equal(mixed, sinkhorn(logits, 0.04))


def test_koleo():
    features = torch.randn(5, 3)
    x = features.double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    expected = np.mean(
        [
            -np.log(min(np.linalg.norm(x[i] - x[j]) for j in range(5) if j != i))
            for i in range(5)
        ]
    )
    assert koleo_loss(features).item() == pytest.approx(expected, rel=1e-4)


def test_koleo_in_mixed_precision():
    """Near a collapse, half precision could not tell neighbours apart."""
    features = 1 + 0.01 * torch.randn(64, 32)
    expected = koleo_loss(features)
    with torch.autocast('cpu', torch.bfloat16):
        assert koleo_loss(features) == expected


def test_no_pair_of_views():
    with pytest.raises(ValueError, match='only view of the teacher'):
        dino_loss(torch.randn(1, 3, K), torch.eye(K), random_targets(1, 3))


def test_koleo_of_twins_is_finite():
    features = torch.ones(4, 3, requires_grad=True)
    loss = koleo_loss(features)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()
    with pytest.raises(ValueError, match='2 images or more'):
        koleo_loss(torch.ones(1, 3))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(method='mean'), "method must be one of .*'sinkhorn'.*, got 'mean'"),
        (dict(temperature=0.0), 'temperature must be above 0, got 0.0'),
        (dict(method='centering', momentum=1.5), r'momentum must lie in \[0, 1\]'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        TeacherTargets(K, **options)


def everything(part: int | None) -> list[Tensor]:
    """Losses, gradients and a center over two steps, of a half of the images or all.

    As trained: the gradients of the processes are averaged.
    """
    torch.manual_seed(1)
    model = nn.Linear(4, K).double()
    teacher = nn.Linear(4, K).double()
    makers = [TeacherTargets(K, method) for method in ('sinkhorn', 'centering')]
    prototypes = nn.Parameter(torch.randn(K, K).double())
    results = []
    for _ in range(2):
        images, patches = torch.randn(3, 8, 4).double(), torch.randn(8, 6, 4).double()
        masked = torch.rand(8, 6) < 0.5
        if part is not None:
            half = slice(4 * part, 4 * part + 4)
            images, patches, masked = images[:, half], patches[half], masked[half]
        per_patch = 1 / masked.sum(1, keepdim=True).clamp(min=1) / len(masked)
        weight = per_patch.expand(masked.shape)[masked]
        total = koleo_loss(images[0] @ model.weight.T).double()
        for make in makers:
            targets = make(teacher(images[:2].flatten(0, 1))).unflatten(0, (2, -1))
            total = total + dino_loss(model(images), prototypes, targets)
            wanted = make(teacher(patches[masked]))
            total = total + ibot_loss(
                model(patches[masked]), prototypes, wanted, weight
            )
            make.follow()
        gradients = torch.autograd.grad(total, [*model.parameters(), prototypes])
        results += [total.detach(), *gradients]
    if part is not None:
        for value in results:
            distributed.all_reduce(value)
            value /= 2
    return [*results, makers[1].center.center]


def work(rank: int, folder: str, connection: Connection) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    connection.send([value.numpy() for value in everything(rank)])
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path):
    context = get_context('fork')
    pipes = [context.Pipe() for _ in range(2)]
    processes = [
        context.Process(target=work, args=(rank, str(tmp_path), pipe[1]))
        for rank, pipe in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    halves = [pipe[0].recv() if pipe[0].poll(60) else None for pipe in pipes]
    for process in processes:
        process.join(10)
        process.kill()
    whole = everything(None)
    for half in halves:
        assert half is not None
        for a, b in zip(half, whole, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-6)
