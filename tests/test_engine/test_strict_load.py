"""`StrictLoadHook` in MMEngine's own runner."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import mmpospretrain  # noqa: F401


class Linear(BaseModel):
    """The smallest model that a runner trains."""

    def __init__(self, features: int):
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, inputs, mode='loss'):
        return {'loss': self.linear(torch.stack(inputs)).square().sum()}


def runner(work_dir, features=3, epochs=1, **options):
    data = [torch.full((features,), float(i)) for i in range(4)]
    return Runner(
        model=Linear(features),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=data,
            sampler=dict(type='DefaultSampler'),
            collate_fn=lambda batch: {'inputs': batch},
            batch_size=2,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        custom_hooks=[dict(type='mmpospretrain.StrictLoadHook')],
        **options,
    )


@pytest.fixture
def checkpoint(tmp_path):
    runner(tmp_path / 'first').train()
    return str(tmp_path / 'first' / 'epoch_1.pth')


@pytest.mark.parametrize('resume', [False, True])
def test_another_model_is_refused_and_left_alone(tmp_path, checkpoint, resume):
    second = runner(
        tmp_path / 'second', features=5, load_from=checkpoint, resume=resume
    )
    before = second.model.linear.weight.detach().clone()
    shapes = r'linear\.weight: \(1, 3\) in the checkpoint, \(1, 5\) in the model'
    with pytest.raises(ValueError, match=shapes):
        second.load_or_resume()
    assert torch.equal(second.model.linear.weight, before)


def test_the_same_model_resumes(tmp_path, checkpoint):
    second = runner(tmp_path / 'second', epochs=2, load_from=checkpoint, resume=True)
    second.train()
    assert (second.epoch, second.iter) == (2, 4)
