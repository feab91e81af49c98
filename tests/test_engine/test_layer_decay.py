"""Which parameter gets which learning rate, in the models of all three libraries."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmpospretrain.engine import LayerDecayConstructor

ROOT = Path(__file__).parents[2] / 'configs/transfer'
CONFIGS = {
    'classification/vit-tiny-p16_photoshapes.py': 'head.fc.weight',
    'detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py': 'rpn_head.rpn_conv.weight',
    'segmentation/upernet_vit-tiny-p16_photoshapes.py': 'decode_head.conv_seg.weight',
}


@pytest.mark.parametrize('path', CONFIGS)
def test_every_parameter(path):
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.learnable_pos_embed = True
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    base = cfg.optim_wrapper.optimizer.lr
    decay = cfg.optim_wrapper.paramwise_cfg.layer_decay_rate
    groups = {g['param_name']: g for g in wrapper.optimizer.param_groups}
    assert groups.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, group in groups.items():
        layer, _, rest = name.removeprefix('backbone.layers.').partition('.')
        if name.startswith('backbone.layers.'):
            steps = 4 - int(layer)  # the last of four blocks is one step from the heads
        elif name.startswith(('backbone.pos_', 'backbone.patch_', 'backbone.cls_')):
            steps = 5
        else:
            steps = 0
        assert group['lr'] == pytest.approx(base * decay**steps), name
        if rest.startswith('ln'):
            assert group['weight_decay'] == 0, name
    assert CONFIGS[path] in groups
    assert groups['backbone.pos_embed']['lr'] == pytest.approx(base * decay**5)


def test_a_model_without_a_backbone_that_knows_its_layers():
    constructor = LayerDecayConstructor(
        dict(optimizer=dict(type='AdamW', lr=1e-3)), dict(layer_decay_rate=0.5)
    )
    init_default_scope('mmpretrain')
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='Sequential has no backbone'):
        constructor(model)
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ValueError, match='get_layer_depth'):
        constructor(model)


def test_the_papers_rates():
    """ViTDet's .7 and 3e-4: the patch embedding of ViT-B learns at 3e-4 * .7 ** 13."""
    cfg = Config.fromfile(ROOT / 'detection/mask-rcnn_vitdet-base-p16_8xb2-88k_coco.py')
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {g['param_name']: g['lr'] for g in wrapper.optimizer.param_groups}
    assert rates['backbone.patch_embed.projection.weight'] == pytest.approx(
        3e-4 * 0.7**13
    )
    assert rates['backbone.layers.11.attn.qkv.weight'] == pytest.approx(3e-4 * 0.7)
    assert rates['neck.levels.p2.0.weight'] == pytest.approx(3e-4)
