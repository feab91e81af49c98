"""Cosines to prototypes, by hand and in half precision."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from mmpospretrain.models import PrototypeHead
from mmpospretrain.models.heads.prototype_head import UnitRows


def build(**options) -> PrototypeHead:
    torch.manual_seed(0)
    head = PrototypeHead(6, 11, hidden_dims=9, bottleneck_dims=4, **options)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def cosines(head: PrototypeHead, tokens: torch.Tensor) -> torch.Tensor:
    answers, prototypes = head(tokens)
    return answers @ prototypes.T


def test_golden_logits():
    """Token by token in float64."""
    head = build().double()
    tokens = torch.randn(5, 6).double()
    weights = {k: v.detach().numpy() for k, v in head.state_dict().items()}
    for token, logits in zip(tokens.numpy(), cosines(head, tokens), strict=True):
        x = token
        for layer in (0, 2, 4):
            x = weights[f'mlp.{layer}.weight'] @ x + weights[f'mlp.{layer}.bias']
            if layer < 4:
                x = x * (1 + erf(x / np.sqrt(2))) / 2
        for row, logit in zip(weights['prototypes.weight'], logits, strict=True):
            cosine = row @ x / np.linalg.norm(row) / np.linalg.norm(x)
            assert logit.item() == pytest.approx(cosine, abs=1e-6)


def test_scale_of_prototypes_says_nothing():
    """Nor do they move along themselves."""
    head, tokens = build(), torch.randn(5, 6)
    before = cosines(head, tokens)
    before.square().sum().backward()
    weight = head.prototypes.weight
    along = (weight.grad * weight).sum(1)
    torch.testing.assert_close(along, torch.zeros(11), atol=1e-5, rtol=0)
    weight.data *= 7
    torch.testing.assert_close(cosines(head, tokens), before)


def test_directions_are_pytorch_s():
    """Values and gradients of ``F.normalize``, of a row of zeros, too."""
    weight = torch.randn(11, 4).double()
    weight[3] = 0
    weight.requires_grad_()
    directions = UnitRows.apply(weight)
    expected = F.normalize(weight, dim=-1)
    torch.testing.assert_close(directions, expected)
    grad = torch.randn(11, 4).double()
    found, wanted = (
        torch.autograd.grad(rows, weight, grad) for rows in (directions, expected)
    )
    torch.testing.assert_close(found, wanted)


def test_mixed_precision_norms_in_full():
    head, tokens = build(), torch.randn(5, 6)
    with torch.autocast('cpu', torch.bfloat16):
        answers, prototypes = head(tokens)
    assert (answers.shape, prototypes.shape) == ((5, 4), (11, 4))
    for rows in (answers, prototypes):
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))


def test_hidden_layers_are_not_kept():
    """They are worked out anew, and gradients are those of the bare MLP."""
    head, tokens = build(), torch.randn(5, 6, requires_grad=True)
    kept = []

    def note(value: torch.Tensor) -> torch.Tensor:
        kept.append(value.shape)
        return value

    def gradients(answer: Callable) -> tuple[torch.Tensor, ...]:
        kept.clear()
        with saved_tensors_hooks(note, lambda value: value):
            loss = answer(tokens).square()[:, 0].sum()
        return torch.autograd.grad(loss, (tokens, *head.mlp.parameters()))

    bare = gradients(lambda x: F.normalize(head.mlp(x), dim=-1))
    assert (5, 9) in kept
    anew = gradients(lambda x: head(x)[0])
    assert (5, 4) in kept
    assert (5, 9) not in kept
    torch.testing.assert_close(anew, bare, rtol=0, atol=0)


def test_initialisation():
    head = PrototypeHead(64, 512)
    head.init_weights()
    assert head.prototypes.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not head.mlp[0].bias.any()


@pytest.mark.parametrize('name', ['num_prototypes', 'num_layers'])
def test_bad_options(name):
    with pytest.raises(ValueError, match=f'{name} must be at least 1, got 0'):
        PrototypeHead(6, **{name: 0})
