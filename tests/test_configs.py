"""Every config of the project builds, and does a step on the images it claims."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from mmpospretrain.engine.config_check import check_cfg_options, check_config
from mmpospretrain.models import PositionViT

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts and 'transfer' not in path.parts
)
TRANSFER = sorted(
    path.relative_to(ROOT) for path in (ROOT / 'configs/transfer').rglob('*.py')
)
# test_posfield_configs.py takes steps with many views of an image.
ONE_VIEW = [path for path in CONFIGS if path.parts[1] != 'posfield']
PAPER = ROOT / 'configs/droppos/droppos_vit-base-p16_8xb512-coslr-200e_in1k.py'
STOP = ROOT / 'configs/stop/stop_vit-base-p16_8xb256-coslr-300e_in1k.py'
MP3 = ROOT / 'configs/mp3/mp3_vit-small-p4_1xb256-coslr-2000e_cifar100.py'

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
    {'model.backbone.positions': 'learned'},
]


# Tabs. 6 - 8, Figs. 3, 4 and Sec. 4.3 of StoP, as configs/stop/README.md spells them.
STOP_ABLATIONS = [
    *({'model.neck.sigma': sigma} for sigma in (0.0, 0.0625, 0.25, 1.0)),
    *({'model.neck.noise_on': kind} for kind in ('none', 'masked', 'context', 'both')),
    *(
        {'model.neck.covariance': 'fixed', 'model.neck.sigma': sigma}
        for sigma in (0.0625, 0.25)
    ),
    {
        'model.neck.noise_on': 'none',
        'model.backbone.learnable_pos_embed': True,
        'model.neck.learnable_pos_embed': True,
    },
    *(
        {'model.neck.noise_on': 'none', 'model.low_resolution': mode}
        for mode in ('bilinear', 'max')
    ),
    {'model.neck.noise_on': 'none', 'model.l1_weight': 0.1},
]

# Figs. 4, 6 and 7 of MP3, as configs/mp3/README.md spells them.
MP3_ABLATIONS = [
    *({'model.mask_ratio': tenths / 10} for tenths in range(10)),
    *({'model.backbone.patch_size': size} for size in (2, 4, 8)),
    *(
        {'train_cfg.max_epochs': epochs, 'param_scheduler.1.end': epochs}
        for epochs in (100, 1000)
    ),
    {'model.query_ratio': 0.5},
]


def load(path: Path) -> Config:
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(ROOT / path)
    # Depth and width cost time and prove nothing that two layers don't.
    backbone = cfg.model.backbone
    backbone.arch = dict(
        embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=32
    )
    if 'DropPos' in cfg.model.type:
        cfg.model.head.update(decoder_dims=32, depth=1, num_heads=4)
    elif cfg.model.type == 'MAE':
        cfg.model.neck.update(embed_dim=32, decoder_embed_dim=24, decoder_num_heads=3)
    elif 'neck' in cfg.model:
        cfg.model.neck.update(embed_dims=24, depth=1, num_heads=4)
    return cfg


def crop_size(pipeline: list[dict]) -> int | None:
    """None if images are taken whole."""
    sizes = [
        step.get('crop_size') or step['scale']
        for step in pipeline
        if step['type'] in ('RandomResizedCrop', 'RandomCrop', 'CenterCrop')
    ]
    assert len(sizes) < 2
    return sizes[0] if sizes else None


def test_there_are_configs():
    assert PAPER.relative_to(ROOT) in CONFIGS
    assert {path.parts[2] for path in TRANSFER} == {
        'classification',
        'detection',
        'segmentation',
    }


@pytest.mark.parametrize('path', ONE_VIEW, ids=str)
def test_builds_and_steps(path):
    cfg = load(path)
    check_config(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for pipeline in (cfg.train_pipeline, cfg.val_pipeline):
        size = crop_size(pipeline) or crop_size(cfg.train_pipeline)
        samples = [DataSample(), DataSample()]
        losses = model(torch.randn(2, 3, size, size), samples, mode='loss')
        total, _ = model.parse_losses(losses)
        assert torch.isfinite(total)


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_full_size_model(path):
    """The real widths and depths fit together: built without memory for weights."""
    init_default_scope('mmpretrain')
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


@pytest.mark.parametrize(
    ('config', 'options'),
    [
        *((PAPER, options) for options in ABLATIONS),
        *((STOP, options) for options in STOP_ABLATIONS),
        *((MP3, options) for options in MP3_ABLATIONS),
    ],
    ids=str,
)
def test_ablations_by_option_alone(config, options):
    cfg = load(config)
    check_cfg_options(cfg, options)
    cfg.merge_from_dict(options)
    check_config(cfg)
    model = MODELS.build(cfg.model)
    model.init_weights()
    size = cfg.model.backbone.img_size
    losses = model(torch.randn(2, 3, size, size), mode='loss')
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)


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


def inputs(cfg: Config) -> dict:
    """Two images of 64², with all the ground truth that the model learns from."""
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(
            2, [[3, 64, 64]] * 2, num_classes=cfg.num_classes, with_mask=True
        )
    images = [torch.randint(256, (3, 64, 64)) for _ in range(2)]
    if cfg.default_scope == 'mmseg':
        labels = PixelData(data=torch.randint(cfg.num_classes, (1, 64, 64)))
        samples = [SegDataSample(gt_sem_seg=labels, metainfo={}) for _ in range(2)]
        return dict(inputs=images, data_samples=samples)
    samples = [DataSample().set_gt_label(k) for k in range(2)]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('path', TRANSFER, ids=str)
def test_transfer_builds_and_steps(path):
    """From scratch, with four layers of the real width, on small images."""
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.default_scope)
    check_config(cfg)
    assert cfg.model.backbone.init_cfg.type == 'mmpospretrain.PretrainedBackbone'
    backbone = cfg.model.backbone
    backbone.init_cfg = None
    if isinstance(backbone.arch, str):
        backbone.arch = dict(PositionViT.arch_zoo[backbone.arch], num_layers=4)
        if 'window_size' in backbone:
            backbone.global_layers = (3,)
        if 'out_indices' in backbone:
            backbone.out_indices = [0, 1, 2, 3]
        if 'frozen_stages' in backbone:
            backbone.frozen_stages = 4
    small = 'photoshapes' in path.name
    cfg.num_classes = 4 if small else 2
    if cfg.default_scope == 'mmpretrain':
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        backbone.img_size = 64
    if 'batch_augments' in cfg.model.get('data_preprocessor', {}):
        cfg.model.data_preprocessor.batch_augments[0]['size'] = (64, 64)
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 64)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    model.train()
    data = model.data_preprocessor(inputs(cfg), training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    assert torch.isfinite(total)
    total.backward()
    frozen = 'linear_' in path.name or 'linear-' in path.name
    touched = model.backbone.patch_embed.projection.weight.grad is not None
    assert touched != (frozen and cfg.default_scope == 'mmpretrain')


SIZES = {'tiny': (128, 4), 'small': (384, 12), 'base': (768, 12), 'large': (1024, 24)}


@pytest.mark.parametrize('path', TRANSFER, ids=str)
def test_transfer_full_size_model(path):
    """The size that the name says."""
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.default_scope)
    if cfg.default_scope == 'mmpretrain':
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with torch.device('meta'):
        backbone = MODELS.build(cfg.model).backbone
    (size,) = [size for size in SIZES if f'-{size}-p' in path.name]
    assert (backbone.embed_dims, backbone.num_layers) == SIZES[size]
    assert f'-p{backbone.patch_size}' in path.name


@pytest.mark.parametrize('path', TRANSFER, ids=str)
def test_transfer_keeps_its_checkpoints_safe(path):
    cfg = Config.fromfile(ROOT / path)
    assert cfg.default_hooks.checkpoint.backend_args == dict(backend='atomic')
    assert cfg.runner_type == 'mmpospretrain.PretrainRunner'
    assert cfg.randomness.seed == 0
    assert cfg.default_scope in ('mmpretrain', 'mmdet', 'mmseg')


def test_schedules_of_the_papers():
    """DropPos, Sec. A.2 and A.3; PosField, Sec. B.2."""
    detection = ROOT / 'configs/transfer/detection'

    def schedule(name: str) -> tuple:
        cfg = Config.fromfile(detection / name)
        step = cfg.param_scheduler[1]
        lr, batch = cfg.optim_wrapper.optimizer.lr, cfg.train_dataloader.batch_size * 8
        assert batch == cfg.auto_scale_lr.base_batch_size
        assert step.end == cfg.train_cfg.max_iters
        return lr, batch, cfg.train_cfg.max_iters, step.milestones

    name = 'mask-rcnn_vitdet-{}_coco.py'.format
    droppos = (3e-4, 16, 88750, [78889, 85463])
    posfield = (3e-4, 64, 22128, [19667, 21306])
    assert schedule(name('base-p16_8xb2-88k')) == droppos
    assert schedule('cascade-' + name('base-p16_8xb2-88k')) == droppos
    assert schedule(name('base-p16_8xb8-22k')) == posfield
    assert schedule(name('small-p16_8xb8-22k')) == (1e-4, *posfield[1:])
    assert schedule(name('base-p16_8xb8-50e')) == (
        *posfield[:2],
        92200,
        [19667 * 50 // 12, 21306 * 50 // 12],
    )
    upernet = Config.fromfile(
        ROOT / 'configs/transfer/segmentation/upernet_vit-base-p16_8xb2-80k_ade20k.py'
    )
    assert upernet.optim_wrapper.optimizer.lr == 7e-4
    assert upernet.optim_wrapper.optimizer.weight_decay == 0.05
    assert upernet.param_scheduler[0].end == 1500
    assert upernet.param_scheduler[1].end == upernet.train_cfg.max_iters == 80000
    assert upernet.train_dataloader.batch_size * 8 == 16
    segmenter = Config.fromfile(
        ROOT / 'configs/transfer/segmentation/'
        'segmenter-linear_vit-base-p16_8xb2-160k_ade20k.py'
    )
    assert segmenter.train_dataloader.batch_size * 8 == 16
    assert segmenter.train_cfg.max_iters == segmenter.param_scheduler[0].end == 160000
    lr = segmenter.optim_wrapper.optimizer.lr
    assert lr in (8e-5, 3e-5, 1e-5, 8e-6)
    assert segmenter.param_scheduler[0].eta_min == pytest.approx(0.1 * lr)
    assert segmenter.optim_wrapper.optimizer.weight_decay in (1e-2, 1e-4)


@pytest.mark.parametrize(('size', 'epochs'), [('base', 100), ('large', 50)])
def test_fine_tuning_of_the_paper(size, epochs):
    """DropPos, Sec. A.1: 1e-3 per 256 images, layer decay .8, 5 epochs of warm-up."""
    cfg = Config.fromfile(
        ROOT / 'configs/transfer/classification/'
        f'vit-{size}-p16_8xb128-coslr-{epochs}e_in1k.py'
    )
    assert cfg.optim_wrapper.optimizer.lr == 1e-3 * 1024 / 256
    assert cfg.train_dataloader.batch_size * 8 == 1024
    assert cfg.auto_scale_lr.base_batch_size == 1024
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.8
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == epochs
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 5
    assert cfg.param_scheduler[1].T_max == epochs - 5
    assert cfg.model.backbone.drop_path_rate == 0.1
