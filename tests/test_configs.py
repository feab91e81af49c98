"""Every config of the project builds, and does a step on the images it claims."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmpospretrain.engine.config_check import check_cfg_options, check_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
PAPER = ROOT / 'configs/droppos/droppos_vit-base-p16_8xb512-coslr-200e_in1k.py'

# Tabs. 1 - 4 and S1 of DropPos, as configs/droppos/README.md spells them.
ABLATIONS = [
    *({'model.mask_ratio': ratio} for ratio in (0.0, 0.25, 0.5, 0.75, 0.9)),
    *({'model.pos_mask_ratio': ratio} for ratio in (0.25, 0.5, 0.75, 1.0)),
    *(
        {'custom_hooks.0.start': start, 'custom_hooks.0.end': end}
        for start, end in ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0))
    ),
    *({'model.temperature': temperature} for temperature in (None, 0.1, 0.5)),
    {'model.affinity_source': 'visible'},
    {'model.head.loss.distance': 'squared'},
    {'model.backbone.learnable_pos_embed': True},
    {
        'model.backbone.learnable_pos_embed': True,
        'model.backbone.pos_embed_init': 'random',
    },
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


def load(path: Path) -> Config:
    cfg = Config.fromfile(ROOT / path)
    # Depth and width cost time and prove nothing that two layers don't.
    backbone = cfg.model.backbone
    backbone.arch = dict(
        embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=32
    )
    cfg.model.head.update(decoder_dims=32, depth=1, num_heads=4)
    return cfg


def crop_size(pipeline: list[dict]) -> int:
    (size,) = [
        step.get('crop_size') or step['scale']
        for step in pipeline
        if step['type'] in ('RandomResizedCrop', 'RandomCrop', 'CenterCrop')
    ]
    return size


def test_there_are_configs():
    assert PAPER.relative_to(ROOT) in CONFIGS


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_builds_and_steps(path):
    cfg = load(path)
    check_config(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for pipeline in (cfg.train_pipeline, cfg.val_pipeline):
        size = crop_size(pipeline)
        losses = model(torch.randn(2, 3, size, size), mode='loss')
        total, _ = model.parse_losses(losses)
        assert torch.isfinite(total)


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_full_size_model(path):
    """The real widths and depths fit together: built without memory for weights."""
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(ROOT / path).model)
    assert sum(p.numel() for p in model.parameters()) > 1e5


@pytest.mark.parametrize('size', [(96, 160), (64, 64)])
def test_other_image_sizes(size):
    cfg = load(PAPER)
    cfg.merge_from_dict({'model.backbone.img_size': size})
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert torch.isfinite(model(torch.randn(2, 3, *size), mode='loss')['loss'])


@pytest.mark.parametrize('options', ABLATIONS, ids=str)
def test_ablations_by_option_alone(options):
    cfg = load(PAPER)
    check_cfg_options(cfg, options)
    cfg.merge_from_dict(options)
    check_config(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert torch.isfinite(model(torch.randn(2, 3, 224, 224), mode='loss')['loss'])


def test_learning_rate_of_the_paper():
    """Base 1.5e-4 per 256 images, warm-up 10 of 200 epochs (Sec. A.1)."""
    cfg = Config.fromfile(PAPER)
    assert cfg.optim_wrapper.optimizer.lr == 1.5e-4
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=256)
    assert cfg.train_dataloader.batch_size * 8 == 4096
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end) == (10, 10, 200)
    large = Config.fromfile(
        PAPER.with_name('droppos_vit-large-p16_8xb512-coslr-800e_in1k.py')
    )
    warmup, cosine = large.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end) == (40, 40, 800)
    assert large.train_cfg.max_epochs == 800
