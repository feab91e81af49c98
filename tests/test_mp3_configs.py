"""The recipes of MP3 are those of the paper, and of DeiT, which it follows."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmpospretrain.engine.cli import set_pretrained
from mmpospretrain.engine.config_check import check_cfg_options

ROOT = Path(__file__).parents[1]
MP3 = ROOT / 'configs/mp3/mp3_vit-small-p4_1xb256-coslr-2000e_cifar100.py'
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=32)
MP3_PRETRAININGS = sorted((ROOT / 'configs/mp3').glob('*e_*.py'))
CLASSIFICATION = ROOT / 'configs/transfer/classification'
MP3_FINE_TUNINGS = [
    CLASSIFICATION / f'vit-{name}.py'
    for name in (
        'small-p4_1xb256-coslr-400e_cifar100',
        'base-p8_1xb512-coslr-400e_tiny-imagenet',
        'base-p16_8xb256-coslr-150e_in1k',
        'large-p16_8xb256-coslr-150e_in1k',
        'base-p16_8xb96-coslr-1000e_cifar10',
        'base-p16_8xb96-coslr-1000e_stanford-cars',
    )
]


def types(dicts: list[dict]) -> list[str]:
    return [step['type'] for step in dicts]


@pytest.mark.parametrize('path', MP3_PRETRAININGS, ids=lambda path: path.stem)
def test_mp3_augments_little(path):
    """RandAugment, and nothing else of DeiT's (Sec. 4.2)."""
    cfg = Config.fromfile(path)
    steps = types(cfg.train_dataloader.dataset.pipeline)
    assert 'RandAugment' in steps
    assert 'RandomErasing' not in steps
    assert cfg.train_dataloader.sampler.type == 'DefaultSampler'
    assert 'train_cfg' not in cfg.model
    assert 'batch_augments' not in cfg.data_preprocessor
    assert cfg.model.head.loss == dict(type='mmpospretrain.PositionLoss')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert not {'RandAugment', 'RandomFlip'} & {*types(loader.dataset.pipeline)}


@pytest.mark.parametrize('path', MP3_FINE_TUNINGS, ids=lambda path: path.stem)
def test_mp3_fine_tunes_with_all_of_deit(path):
    cfg = Config.fromfile(path)
    steps = types(cfg.train_dataloader.dataset.pipeline)
    assert steps.index('RandAugment') < steps.index('RandomErasing')
    assert types(cfg.model.train_cfg.augments) == ['Mixup', 'CutMix']
    assert cfg.train_dataloader.sampler.type == 'RepeatAugSampler'
    assert cfg.model.head.loss.type == 'LabelSmoothLoss'
    assert cfg.model.head.loss.label_smooth_val == 0.1
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes
    backbone = cfg.model.backbone
    assert (backbone.positions, backbone.out_type) == ('learned', 'cls_token')
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert not {'RandAugment', 'RandomErasing'} & {*types(loader.dataset.pipeline)}


# Tab. 1 and Sec. 4.2: patch, places, η, batch, epochs.
MP3_SETTINGS = {
    'small-p2_1xb256-coslr-2000e_cifar100': (2, 256, 0.5, 256, 2000),
    'small-p4_1xb256-coslr-2000e_cifar100': (4, 64, 0.5, 256, 2000),
    'small-p8_1xb256-coslr-2000e_cifar100': (8, 16, 0.5, 256, 2000),
    'base-p8_1xb512-coslr-2000e_tiny-imagenet': (8, 64, 0.8, 512, 2000),
    'base-p16_8xb256-coslr-100e_in1k': (16, 196, 0.75, 2048, 100),
    'large-p16_8xb256-coslr-150e_in1k': (16, 196, 0.75, 2048, 150),
}


def batch_size(path: Path, cfg: Config) -> int:
    """Of all the GPUs that the name says."""
    gpus, per_gpu = map(int, re.search(r'_(\d+)xb(\d+)-', path.name).groups())
    assert per_gpu == cfg.train_dataloader.batch_size
    return gpus * per_gpu


@pytest.mark.parametrize(
    'path', [*MP3_PRETRAININGS, *MP3_FINE_TUNINGS], ids=lambda path: path.stem
)
def test_recipe_of_mp3(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'AdamW'
    assert (optimizer.lr, optimizer.weight_decay) == (5e-4, 0.05)
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=512)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end) == (5, 5, cfg.train_cfg.max_epochs)
    assert cfg.model.backbone.drop_path_rate == 0.1


def test_settings_of_mp3():
    names = {path.stem.removeprefix('mp3_vit-') for path in MP3_PRETRAININGS}
    assert names == MP3_SETTINGS.keys()
    for path in MP3_PRETRAININGS:
        cfg = Config.fromfile(path)
        backbone = cfg.model.backbone
        assert MP3_SETTINGS[path.stem.removeprefix('mp3_vit-')] == (
            backbone.patch_size,
            (backbone.img_size // backbone.patch_size) ** 2,
            cfg.model.mask_ratio,
            batch_size(path, cfg),
            cfg.train_cfg.max_epochs,
        )
    fine_tunings = [Config.fromfile(path) for path in MP3_FINE_TUNINGS]
    assert [
        (batch_size(path, cfg), cfg.train_cfg.max_epochs)
        for path, cfg in zip(MP3_FINE_TUNINGS, fine_tunings, strict=True)
    ] == [(256, 400), (512, 400), (2048, 150), (2048, 150), (768, 1000), (768, 1000)]


@pytest.mark.parametrize('patch_size', [4, 8])
@pytest.mark.parametrize('positions', ['learned', 'sincos', 'relative', 'none'])
def test_mp3_brings_no_positions_along(positions, patch_size, tmp_path):
    """A checkpoint of its own fits the fine-tuning, whatever positions that has."""
    cfg = Config.fromfile(MP3)
    cfg.model.backbone.update(arch=ARCH, patch_size=patch_size)
    checkpoint = tmp_path / 'epoch_2000.pth'
    torch.save(MODELS.build(cfg.model).state_dict(), checkpoint)
    cfg = Config.fromfile(MP3_FINE_TUNINGS[0])
    options = {
        'model.backbone.positions': positions,
        'model.backbone.patch_size': patch_size,
    }
    check_cfg_options(cfg, options)
    cfg.merge_from_dict(options)
    set_pretrained(cfg, str(checkpoint))
    cfg.model.backbone.arch = ARCH
    cfg.model.head.in_channels = ARCH['embed_dims']
    model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
    model.init_weights()
    images = [torch.randint(256, (3, 32, 32)) for _ in range(2)]
    samples = [DataSample().set_gt_label(label) for label in (3, 99)]
    data = dict(inputs=images, data_samples=samples)
    data = model.train().data_preprocessor(data, training=True)
    assert data['data_samples'][0].gt_score.shape == (100,)  # mixed
    model(**data, mode='loss')['loss'].backward()
    position = {'relative': 'rel_pos_bias.table', 'learned': 'pos_embed'}
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    ours = {name for name in learned if name.endswith(tuple(position.values()))}
    assert all(name.endswith(position.get(positions, '?')) for name in ours)
    assert bool(ours) == (positions in position)
