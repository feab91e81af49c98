"""Losses of a student and its teacher: float64 references, and two processes as one."""

from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from scipy.special import logsumexp
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from mmpospretrain.models.losses.distillation import (
    TeacherTargets,
    centering,
    dino_loss,
    ibot_loss,
    koleo_loss,
    sinkhorn,
)
from mmpospretrain.models.losses.prototype_cross_entropy import Targets

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


def as_targets(dense: Tensor) -> Targets:
    return Targets(dense, dense.new_ones(dense.shape[-1]))


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_sinkhorn():
    """Row by row and column by column in float64."""
    given = (torch.randn(12, K) / 0.5).exp()
    shares = given.double().numpy().copy()
    for _ in range(3):
        for column in range(K):
            shares[:, column] /= shares[:, column].sum()
        for row in range(12):
            shares[row] /= shares[row].sum()
    targets = sinkhorn(given)
    assert targets.matrix is given  # 1 GB, at 65,536 prototypes
    np.testing.assert_allclose(targets.dense(), shares, rtol=1e-5)
    assert targets.dense().dtype == torch.float32


def test_sinkhorn_spreads_evenly():
    """All want the first prototype, and it cannot be."""
    logits = torch.rand(300, K) + torch.tensor([5.0] + [0] * (K - 1))
    targets = sinkhorn((logits / 0.2).exp(), iterations=50).dense()
    torch.testing.assert_close(targets.sum(1), torch.ones(300))
    torch.testing.assert_close(
        targets.sum(0), torch.full((K,), 300 / K), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize('temperature', [0.1, 0.04, 0.02])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('method', ['sinkhorn', 'centering'])
def test_targets_in_extremes(method, dtype, temperature):
    """Answers and prototypes that all point one way or the opposite."""
    one = unit(1, 8)
    answers = one * torch.tensor([1.0, -1, -1, -1, 1, -1])[:, None]
    make = TeacherTargets(512, method, temperature=temperature)
    for signs in (torch.ones(512), torch.ones(512).index_fill(0, torch.tensor(0), -1)):
        prototypes = one * signs[:, None]
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
            targets = make(answers, prototypes)
        assert targets.matrix.dtype == dtype
        assert (targets.columns > 0).all()
        logits = (answers.double() @ prototypes.double().T).numpy() / temperature
        logs = logits
        for _ in range(3 if method == 'sinkhorn' else 0):
            logs = logs - logsumexp(logs, axis=0, keepdims=True)
            logs = logs - logsumexp(logs, axis=1, keepdims=True)
        # In half precision cosines are off by 1/256, and their powers by e^.2 at .02.
        if dtype == torch.float32:
            np.testing.assert_allclose(
                targets.dense(), softmax(logs), rtol=1e-3, atol=1e-30
            )
        else:
            torch.testing.assert_close(targets.dense().sum(1), torch.ones(6))


def test_targets_of_nothing():
    """Another process may have tokens, this one need not."""
    targets = sinkhorn(torch.zeros(0, K))
    assert targets.dense().shape == (0, K)
    torch.testing.assert_close(targets.columns, torch.ones(K))


def test_center():
    """Over the steps, with a batch in two parts in the second."""
    make = TeacherTargets(K, 'centering', temperature=0.04, momentum=0.9)
    center, prototypes = make.center, unit(K, 3)
    batches = torch.stack([unit(8, 3) for _ in range(3)])
    expected = np.zeros(K)
    for step, batch in enumerate(batches):
        parts = batch.split(4) if step == 1 else [batch]
        for part in parts:
            logits = (part.double() @ prototypes.double().T).numpy()
            wanted = softmax((logits - expected) / 0.04)
            targets = make(part, prototypes).dense()
            np.testing.assert_allclose(targets, wanted, rtol=1e-3, atol=1e-6)
        center.follow()
        logits = (batch.double() @ prototypes.double().T).numpy()
        expected = 0.9 * expected + 0.1 * logits.mean(0)
        np.testing.assert_allclose(center.center, expected, rtol=1e-4, atol=1e-6)
    before = center.center.clone()
    center.follow()  # nothing was seen
    make.eval()(batches[0], prototypes)
    center.follow()  # nor in evaluation
    assert torch.equal(center.center, before)
    assert set(center.state_dict()) == {'center'}


def test_centering():
    cosines, center = unit(4, K), unit(1, K)[0]
    found = centering((cosines / 0.04).exp(), center, 0.04).dense()
    expected = softmax((cosines - center).double().numpy() / 0.04)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_modules():
    """Those that other algorithms may take from the registry."""
    answers, prototypes, targets = unit(6, 3), unit(K, 3), random_targets(6)
    weight = torch.rand(6)
    views = answers.unflatten(0, (3, 2)), prototypes, targets[:4].unflatten(0, (2, 2))

    def make(name: str, **kwargs) -> nn.Module:
        return MODELS.build(dict(type=f'mmpospretrain.{name}', **kwargs))

    cold = dict(student_temperature=0.2)
    assert make('DINOLoss', **cold)(*views) == dino_loss(*views, temperature=0.2)
    assert make('DINOLoss')(*views) == dino_loss(*views, temperature=0.1)
    patches = answers, prototypes, as_targets(targets), weight
    assert make('IBOTLoss', **cold)(*patches) == ibot_loss(*patches, temperature=0.2)
    assert make('KoLeoLoss', loss_weight=0.3)(answers) == 0.3 * koleo_loss(answers)
    assert make('KoLeoLoss', loss_weight=0)(answers[:1]) == 0  # without a neighbour
    for name in ('DINOLoss', 'IBOTLoss'):
        with pytest.raises(ValueError, match=r'student_temperature .* 0\.01'):
            make(name, student_temperature=0.01)
    with pytest.raises(ValueError, match='loss_weight must be at least 0, got -1'):
        make('KoLeoLoss', loss_weight=-1)


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


def test_dino_of_one_view_of_the_teacher():
    """Which the student has nothing to learn of, itself."""
    logits, targets = torch.randn(3, 4, K), random_targets(1, 4)
    terms = [
        numpy_cross_entropy(logits[s, image], targets[0, image], 0.1)
        for s in (1, 2)
        for image in range(4)
    ]
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
    found = ibot_loss(logits, torch.eye(K), as_targets(targets), weight)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    nothing = as_targets(targets[:0])
    assert ibot_loss(logits[:0], torch.eye(K), nothing, weight[:0]).item() == 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_sinkhorn_in_mixed_precision(dtype):
    """A teacher that leans to one prototype gives factors of any size."""
    logits = 0.2 * torch.rand(16, 512)
    logits[:, 0] += 0.8
    shares = (logits / 0.04).exp()
    with torch.autocast('cpu', dtype):
        mixed = sinkhorn(shares)
    assert torch.equal(mixed.dense(), sinkhorn(shares).dense())


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
        (
            dict(temperature=0.01),
            'temperature must be at least 0.02, .* got 0.01',
        ),
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
    model = nn.Linear(4, 5).double()
    teacher = nn.Linear(4, 5).double()
    makers = [TeacherTargets(K, method) for method in ('sinkhorn', 'centering')]
    prototypes = nn.Parameter(unit(K, 5).double())
    taught = unit(K, 5).double()

    def say(said: Tensor) -> Tensor:
        return F.normalize(said, dim=-1)

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
            targets = make(say(teacher(images[:2].flatten(0, 1))), taught).dense()
            targets = targets.unflatten(0, (2, -1))
            total = total + dino_loss(say(model(images)), prototypes, targets)
            wanted = make(say(teacher(patches[masked])), taught)
            total = total + ibot_loss(
                say(model(patches[masked])), prototypes, wanted, weight
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
