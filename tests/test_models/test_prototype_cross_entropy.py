"""Cross-entropy over prototypes: autograd and float64, chunks, half precision."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmpospretrain.models.losses import prototype_cross_entropy
from mmpospretrain.models.losses.distillation import TeacherTargets
from mmpospretrain.models.losses.prototype_cross_entropy import (
    Targets,
    by_gaps,
    by_products,
    cross_entropy,
    similarities,
)

K = 7


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize('temperature', [0.04, 0.02])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_similarities(dtype, temperature):
    """Half precision has its digits near 0, where nearly all cosines are."""
    answers, prototypes = unit(30, 256), unit(512, 256)
    prototypes[:30] = answers
    expected = answers.double() @ prototypes.double().T / temperature
    mixed = dtype != torch.float32
    with torch.autocast('cpu', dtype if mixed else torch.bfloat16, enabled=mixed):
        found = similarities(answers, prototypes, temperature)
        memory = torch.zeros_like(found)
        again = similarities(answers, prototypes, temperature, out=memory)
    assert found.dtype == (dtype if dtype == torch.bfloat16 else torch.float32)
    assert torch.equal(found, again)
    assert torch.equal(memory, found) == (dtype != torch.bfloat16)
    assert found.exp().isfinite().all()
    # Factors are rounded, and so are sums of 256: of float32 alone, as they go.
    digits = torch.finfo(dtype).eps * (8 if dtype == torch.float32 else 1)
    torch.testing.assert_close(
        found.double(), expected, rtol=digits, atol=digits / temperature / 4
    )


@pytest.mark.parametrize('how', [by_gaps, by_products])
@pytest.mark.parametrize('chunk', [1, 4 * K * 8, 8 * K * 8, 10**6])
def test_gradient_of_cross_entropy(monkeypatch, how, chunk):
    """Against PyTorch's own, chunk by chunk."""
    monkeypatch.setitem(prototype_cross_entropy.CHUNK, 'cpu', chunk)
    answers = unit(10, 3).double().requires_grad_()
    prototypes = unit(K, 3).double().requires_grad_()
    weight = torch.rand(10).double()
    targets = Targets(torch.rand(10, K).double(), torch.rand(K).double())
    found = how(answers.detach(), prototypes.detach(), targets, weight, 0.3)
    logits = answers @ prototypes.T / 0.3
    plain = -(weight[:, None] * targets.dense() * logits.log_softmax(1)).sum()
    gradients = torch.autograd.grad(plain, (answers, prototypes))
    for a, b in zip(found, (plain, *gradients), strict=True):
        torch.testing.assert_close(a, b)


def test_cross_entropy_is_differentiable():
    """By finite differences, and times whatever comes after it."""
    inputs = unit(10, 3).double(), unit(K, 3).double()
    inputs = [x.requires_grad_() for x in inputs]
    targets = Targets(torch.rand(10, K).double(), torch.rand(K).double())
    weight = torch.rand(10).double()
    assert torch.autograd.gradcheck(
        lambda a, b: 3 * cross_entropy(a, b, targets, weight, 0.3), inputs
    )


@pytest.mark.parametrize('alike', [0.0, 3.0])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_cross_entropy_in_mixed_precision(dtype, alike):
    """Products in half precision, which loses no weights, however small they are.

    Nor what tells tokens apart that nearly say the same: their cosines are .9.
    """
    common = alike * unit(1, 256)
    answers = F.normalize(unit(64, 256) + common, dim=-1).requires_grad_()
    prototypes = unit(4096, 256).requires_grad_()
    make = TeacherTargets(4096)
    taught = F.normalize(unit(64, 256) + common, dim=-1), unit(4096, 256)
    weight = torch.rand(64) / (256 * 59)
    results = []
    for enabled in (False, True):
        with torch.autocast('cpu', dtype, enabled=enabled):
            targets = make(*taught)
            loss = cross_entropy(answers, prototypes, targets, weight, 0.1)
        gradients = torch.autograd.grad(loss, (answers, prototypes))
        results.append((targets.dense(), loss, *gradients))
    for full, mixed in zip(*results, strict=True):
        assert mixed.dtype == torch.float32
        assert not torch.equal(full, mixed)
        assert (mixed - full).norm() < 0.02 * full.norm()
