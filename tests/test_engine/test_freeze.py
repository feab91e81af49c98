"""What is frozen stays to the bit, and learns afterwards."""

import re

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmpospretrain.engine.hooks import FreezeHook


class Runner:
    """Two layers, AdamW with weight decay, two iterations an epoch."""

    def __init__(self, accumulate: int = 1) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1, weight_decay=0.5)
        self.optim_wrapper = OptimWrapper(optimizer, accumulative_counts=accumulate)
        self.optim_wrapper.initialize_count_status(self.model, 0, 6)
        self.epoch = 0
        self.message_hub = MessageHub.get_instance('freeze')

    def run_epoch(self) -> None:
        for _ in range(2):
            self.optim_wrapper.update_params(self.model(torch.ones(1, 3)).sum())
        self.epoch += 1


@pytest.mark.parametrize('accumulate', [1, 2])
def test_frozen_for_an_epoch(accumulate):
    runner = Runner(accumulate)
    hook = FreezeHook(['1'])
    hook.before_train(runner)
    first, last = (layer.weight.clone() for layer in runner.model)
    runner.run_epoch()
    assert torch.equal(runner.model[1].weight, last)
    assert not torch.equal(runner.model[0].weight, first)
    runner.run_epoch()
    assert not torch.equal(runner.model[1].weight, last)
    hook.after_train(runner)
    runner.epoch = 0
    last = runner.model[1].weight.clone()
    runner.run_epoch()
    assert not torch.equal(runner.model[1].weight, last)


class Heads(nn.Module):
    """Of a student and its teacher; both heads of the student share a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.target_heads = (
            nn.ModuleDict(
                {
                    name: nn.ModuleDict(
                        dict(mlp=nn.Linear(2, 2), prototypes=nn.Linear(2, 2))
                    )
                    for name in ('cls', 'content')
                }
            )
            for _ in range(2)
        )
        self.heads['content']['mlp'] = self.heads['cls']['mlp']


@pytest.mark.parametrize(
    ('targets', 'frozen'),
    [
        (['heads.*.prototypes'], {'heads.cls.prototypes', 'heads.content.prototypes'}),
        (
            ['*.cls.prototypes', 'heads.content.prototypes'],
            {
                'heads.cls.prototypes',
                'heads.content.prototypes',
                'target_heads.cls.prototypes',
            },
        ),
        (['heads.content.mlp'], {'heads.cls.mlp'}),  # the same layer
        (['heads.c[lx]s'], {'heads.cls.mlp', 'heads.cls.prototypes'}),
    ],
)
def test_patterns(targets, frozen):
    runner = Runner()
    runner.model = Heads()
    optimizer = torch.optim.SGD(runner.model.parameters(), lr=1.0)
    runner.optim_wrapper = OptimWrapper(optimizer)
    FreezeHook(targets).before_train(runner)
    for parameter in runner.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: p.clone() for name, p in runner.model.named_parameters()}
    optimizer.step()
    assert {
        name.rpartition('.')[0]
        for name, parameter in runner.model.named_parameters()
        if torch.equal(parameter, before[name])
    } == frozen


@pytest.mark.parametrize(
    ('pattern', 'message'),
    [
        ('heads.*.prototype', "'heads.*.prototype'; did you mean 'heads.cls.prototy"),
        ('last', "no module of Heads matches 'last'; its parts are heads, target_hea"),
    ],
)
def test_unknown_module(pattern, message):
    runner = Runner()
    runner.model = Heads()
    with pytest.raises(ValueError, match=re.escape(message)):
        FreezeHook(['heads', pattern]).before_train(runner)


def test_bad_epochs():
    with pytest.raises(ValueError, match='epochs must be at least 0, got -1'):
        FreezeHook(['1'], epochs=-1)
