"""Script of test_training.py: train a config with masks that follow from the image.

``python fixed_masks.py CONFIG OUT``, also under torchrun. Rank 0 writes the mean loss
of every iteration, the learning rate, and the final weights.
"""

import sys

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook

from mmpospretrain.engine import PretrainRunner
from mmpospretrain.engine.errors import leave_process_group
from mmpospretrain.models.selfsup.droppos import DropPos, Masks
from mmpospretrain.registry import MODELS


@MODELS.register_module()
class FixedMasks(DropPos):
    """DropPos whose masks follow from the images, not from the process."""

    def loss(self, inputs, data_samples=None):
        self.images = [sample.sample_idx for sample in data_samples]
        return super().loss(inputs, data_samples)

    def draw_masks(self, batch_size, *args, **kwargs):
        assert len(self.images) == batch_size
        draw = super().draw_masks
        masks = [
            draw(1, generator=torch.Generator().manual_seed(image))
            for image in self.images
        ]
        return Masks(*map(torch.cat, zip(*masks, strict=True)))


class Losses(Hook):
    """The loss of every iteration, as the mean over processes."""

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = outputs['loss'].detach().clone()
        all_reduce(loss, op='mean')
        self.values.append(loss)
        self.lr = runner.optim_wrapper.param_groups[0]['lr']


def run(model_type: str) -> None:
    """Train a config from the command line with another type of model."""
    train(model_type, *sys.argv[1:])
    leave_process_group()


def train(model_type: str, config: str, out: str) -> None:
    """Train, and write what the tests compare."""
    cfg = Config.fromfile(config)
    cfg.model.type = model_type
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    runner = PretrainRunner.from_cfg(cfg)
    losses = Losses()
    runner.register_hook(losses)
    model = runner.train()
    if is_main_process():
        model = getattr(model, 'module', model)
        torch.save(
            dict(
                loss=torch.stack(losses.values),
                lr=losses.lr,
                state_dict=model.state_dict(),
            ),
            out,
        )


if __name__ == '__main__':
    run('mmpospretrain.FixedMasks')
