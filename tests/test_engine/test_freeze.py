"""What is frozen stays to the bit, and learns afterwards."""

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


def test_unknown_module():
    with pytest.raises(ValueError, match=r"FreezeHook: Sequential has no 'head\.last'"):
        FreezeHook(['head.last']).before_train(Runner())


def test_bad_epochs():
    with pytest.raises(ValueError, match='epochs must be at least 0, got -1'):
        FreezeHook(['1'], epochs=-1)
