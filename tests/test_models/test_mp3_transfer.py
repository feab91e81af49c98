"""What MP3 has learned goes into each task, with any kind of positions."""

from pathlib import Path

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from torch import nn

from mmpospretrain.engine.config_check import check_cfg_options

CONFIGS = Path(__file__).parents[2] / 'configs'
TASKS = {
    'mmpretrain': 'classification/vit-tiny-p16_photoshapes.py',
    'mmdet': 'detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py',
    'mmseg': 'segmentation/upernet_vit-tiny-p16_photoshapes.py',
}


def batch(scope: str) -> dict:
    """Two images of 112² and what is on them."""
    if scope == 'mmdet':
        return demo_mm_inputs(2, [[3, 112, 112]] * 2, num_classes=4, with_mask=True)
    images = [torch.randint(256, (3, 112, 112)) for _ in range(2)]
    if scope == 'mmpretrain':
        samples = [DataSample().set_gt_label(k) for k in range(2)]
    else:
        labels = PixelData(data=torch.randint(4, (1, 112, 112)))
        samples = [SegDataSample(gt_sem_seg=labels, metainfo={}) for _ in range(2)]
    return dict(inputs=images, data_samples=samples)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(CONFIGS / 'mp3/mp3_vit-tiny-p16_photoshapes.py')
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp('mp3') / 'epoch_14.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.mark.parametrize('positions', ['learned', 'sincos', 'relative', 'none'])
@pytest.mark.parametrize('scope', TASKS)
def test_every_task_with_every_kind_of_positions(scope, positions, checkpoint):
    cfg = Config.fromfile(CONFIGS / 'transfer' / TASKS[scope])
    init_default_scope(scope)
    options = {'model.backbone.positions': positions}
    check_cfg_options(cfg, options)
    cfg.merge_from_dict(options)
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model)
    model.init_weights()
    pretrained = torch.load(checkpoint)['state_dict']
    arrived = [
        torch.equal(value, pretrained[f'backbone.{name}'])
        for name, value in model.backbone.state_dict().items()
        if f'backbone.{name}' in pretrained
    ]
    assert all(arrived)
    assert len(arrived) >= 4 * 12 + 2

    model.train()
    data = model.data_preprocessor(batch(scope), training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    trained = {
        name: parameter.grad is not None and bool(parameter.grad.any())
        for name, parameter in model.backbone.named_parameters()
        if 'pos_' in name and parameter.requires_grad
    }
    assert bool(trained) == (positions in ('learned', 'relative'))
    assert all(trained.values())
