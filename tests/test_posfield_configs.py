"""PosField's recipe is that of the paper, its tables are options, its views arrive."""

import math
import random
import re
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import DATASETS, FUNCTIONS, init_default_scope
from mmpretrain.registry import MODELS, TRANSFORMS
from torch import Tensor, nn

from mmpospretrain.engine.cli import build_runner
from mmpospretrain.engine.config_check import check_cfg_options, check_config
from mmpospretrain.models.positions import box_mask, cross_mask, draw_scales

FOLDER = Path(__file__).parents[1] / 'configs/posfield'
PAPER = sorted(FOLDER.glob('*8xb64*.py'))
LARGE = sorted(FOLDER.glob('*in1k.py'))
SMALL = sorted(FOLDER.glob('*photoshapes.py'))
POSFIELD = FOLDER / 'posfield_vit-tiny-p16_photoshapes.py'
README = (FOLDER / 'README.md').read_text(encoding='utf-8')
# Depth and width cost time and prove nothing that two layers don't.
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=32)
HEAD = dict(num_prototypes=64, hidden_dims=16, bottleneck_dims=8)


def hook(cfg: Config, name: str) -> Config:
    (found,) = (h for h in cfg.custom_hooks if h.type == f'mmpospretrain.{name}')
    return found


def load(path: Path, options: dict | None = None) -> Config:
    cfg = Config.fromfile(path)
    options = options or {}
    check_cfg_options(cfg, options)
    cfg.merge_from_dict(options)
    check_config(cfg)
    cfg.model.backbone.arch = ARCH
    cfg.model.head.update(HEAD)
    return cfg


def build(cfg: Config) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
    model.init_weights()
    return model.train()


def batch(cfg: Config, image_folder: Path, count: int = 3) -> dict:
    """As the data loader of a config makes it."""
    dataset = cfg.train_dataloader.dataset.copy()
    dataset.data_root = str(image_folder)
    dataset = DATASETS.build(dataset)
    collate = FUNCTIONS.get(cfg.train_dataloader.collate_fn.type)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002, the transforms use it
    return collate([dataset[index] for index in range(count)])


def step(model: nn.Module, data: dict) -> dict[str, Tensor]:
    data = model.data_preprocessor(data, training=True)
    torch.manual_seed(0)
    return model(**data, mode='loss')


@pytest.mark.parametrize('path', PAPER, ids=lambda path: path.stem)
def test_pre_training_of_the_paper(path):
    """Tab. 6, and Sec. 4.1 for the crops."""
    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    posfield = 'posfield' in path.name
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 100
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert cfg.optim_wrapper.optimizer.lr == 2e-3
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=1024, rule='sqrt')
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 10
    # One lr for all layers.
    assert cfg.optim_wrapper.constructor == 'mmpospretrain.MergedGroupsConstructor'
    assert 'lr_mult' not in str(cfg.optim_wrapper.paramwise_cfg)
    decay = hook(cfg, 'WeightDecayScheduleHook')
    assert (decay.start, decay.end, decay.shape) == (0.04, 0.4, 'cosine')
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.04
    layers = model.backbone.layers
    rates = [getattr(layer.ffn.dropout_layer, 'drop_prob', 0.0) for layer in layers]
    assert rates == pytest.approx(np.linspace(0, 0.1, 12))
    teacher = hook(cfg, 'TeacherHook')
    assert (teacher.start, teacher.end, teacher.shape) == (0.992, 1.0, 'cosine')
    assert {t.temperature for t in model.targets.values()} == {0.04}
    assert model.mask_ratio == (0.1, 0.5)
    maskings = dict(content=(0.5, box_mask), position=(0.5, cross_mask))
    maskings = maskings if posfield else dict(content=(0.5, box_mask))
    assert model.maskings == maskings
    assert [*model.heads] == ['cls', *maskings]
    for heads in (model.heads, model.target_heads):
        for head in heads.values():
            assert head.prototypes.out_features == 65536
        assert len({id(head) for head in heads.values()}) == len(heads)
    assert model.koleo_loss.loss_weight == 1  # Eq. 6
    width = 768 if '-base-' in path.name else 384
    assert (model.backbone.embed_dims, len(layers)) == (width, 12)
    if posfield:
        assert model.backbone.field.samples.shape == (50, 50, width)
        scales = draw_scales(4000, model.scales)
        assert scales.min() > 0.2
        assert scales.max() < 1
        assert scales.mean().item() == pytest.approx(0.2 + 0.8 * 2 / 7, abs=0.01)
    assert 8 * cfg.train_dataloader.batch_size == 512
    crops = cfg.train_dataloader.dataset.pipeline[0]
    firsts = [kind[0] for kind in crops.transforms]
    assert list(zip((f.scale for f in firsts), crops.num_views, strict=True)) == [
        (224, 1),
        (224, 1),
        (96, 8),
    ]


@pytest.mark.parametrize('path', PAPER, ids=lambda path: path.stem)
def test_what_the_paper_leaves_to_dinov2(path):
    """Its paper's Sinkhorn-Knopp; all else from ssl_default_config.yaml of its code."""
    cfg = Config.fromfile(path)
    model = cfg.model
    assert model.targets.method == 'sinkhorn'
    assert (model.head.num_layers, model.head.hidden_dims) == (3, 2048)
    assert model.head.bottleneck_dims == 256
    assert (model.num_global_views, model.student_temperature) == (2, 0.1)
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.999)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=3.0)
    assert cfg.param_scheduler[1].eta_min == 1e-6
    freeze = hook(cfg, 'FreezeHook')
    assert (freeze.targets, freeze.epochs) == (['heads.*.prototypes'], 1)
    for kind in cfg.train_dataloader.dataset.pipeline[0].transforms:
        shares = (0.05, 0.32) if kind[0].scale == 96 else (0.32, 1.0)
        assert kind[0].crop_ratio_range == shares
        assert (kind[0].backend, kind[0].interpolation) == ('pillow', 'bicubic')


@pytest.mark.parametrize('path', LARGE, ids=lambda path: path.stem)
def test_learning_rate_that_the_header_derives(path):
    gpus, per_gpu = map(int, re.search(r'_(\d+)xb(\d+)-', path.name).groups())
    cfg = Config.fromfile(path)
    assert cfg.train_dataloader.batch_size == per_gpu
    batch, lr = re.search(
        r'2e-3 · √\((\d+) / 1024\) = ([\d.e-]+\d)', path.read_text(encoding='utf-8')
    ).groups()
    assert int(batch) == gpus * per_gpu
    assert float(lr) == pytest.approx(2e-3 * math.sqrt(int(batch) / 1024), rel=3e-3)


def test_colours():
    """First global (BYOL), second global (BYOL), local views; grey is that of BGR."""
    cfg = Config.fromfile(PAPER[0])
    kinds = cfg.train_dataloader.dataset.pipeline[0].transforms
    probabilities = [
        {t.type: t.prob for t in kind if 'prob' in t and 'transforms' not in t}
        for kind in kinds
    ]
    common = dict(RandomFlip=0.5, RandomGrayscale=0.2)
    assert probabilities == [
        dict(common, GaussianBlur=1.0),
        dict(common, GaussianBlur=0.1, Solarize=0.2),
        dict(common, GaussianBlur=0.5),
    ]
    for kind in kinds:
        (jitter,) = (t for t in kind if t.type == 'RandomApply')
        strength = jitter.transforms[0]
        assert jitter.prob == 0.8
        for transform in kind:
            if transform.type == 'GaussianBlur':  # the radius is drawn evenly
                assert transform.magnitude_range == (0.1, 2.0)
                assert transform.magnitude_std == 'inf'
            if transform.type == 'Solarize':
                assert transform.thr == 128
        assert [
            strength[name] for name in ('brightness', 'contrast', 'saturation', 'hue')
        ] == [0.4, 0.4, 0.2, 0.1]
    (grey,) = (t for t in kinds[0] if t.type == 'RandomGrayscale')
    blue = np.zeros((2, 2, 3), dtype=np.uint8)
    blue[..., 0] = 200
    results = TRANSFORMS.build(dict(grey, prob=1.0))(dict(img=blue))
    assert np.unique(results['img']).item() == int(200 * 0.114)


@pytest.mark.parametrize(
    ('path', 'views'),
    [(path, {96: 2, 48: 4}) for path in SMALL]
    + [(path, {224: 2, 96: 8}) for path in LARGE],
    ids=lambda x: getattr(x, 'stem', ''),
)
def test_views_arrive_and_train(path, views, image_folder):
    cfg = load(path)
    data = batch(cfg, image_folder)
    assert [x.shape for x in data['inputs']] == [
        (3 * count, 3, size, size) for size, count in views.items()
    ]
    for sample in data['data_samples']:
        x1, y1, x2, y2 = sample.view_boxes.T
        areas = (x2 - x1) * (y2 - y1)
        # Sides are whole pixels, of 112.
        assert areas[:2] == pytest.approx(0.66, abs=0.36)
        assert areas[2:] == pytest.approx(0.185, abs=0.15)
        assert sample.view_flipped.shape == areas.shape
    model = build(cfg)
    total, log = model.parse_losses(step(model, data))
    assert all(math.isfinite(value) for value in log.values())
    total.backward()
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, p in learning.items() if p.grad is None]
    positions = any('field.samples' in name for name in learning)
    assert positions == (path.stem.split('_')[0] in ('posfield', 'posfield-field'))
    masked = 'loss_position' in log
    assert masked == (path.stem.split('_')[0] in ('posfield', 'posfield-lpos'))


@pytest.fixture(scope='module')
def photoshapes(image_folder) -> dict:
    init_default_scope('mmpretrain')
    return batch(Config.fromfile(POSFIELD), image_folder)


def losses_of(path: Path, data: dict, options: dict | None = None) -> dict:
    return step(build(load(path, options)), data)


@pytest.fixture(scope='module')
def default(photoshapes) -> dict[str, Tensor]:
    return losses_of(POSFIELD, photoshapes)


def ablations() -> dict[str, dict]:
    """Rows of the README's table: label and ``--cfg-options``."""
    _, _, section = README.partition('## Every ablation is an option')
    section, _, _ = section.partition('\n## ')
    parser = ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    rows = re.findall(r'^\| (.+?) \| `(.+?=.+?)` \|', section, re.MULTILINE)
    return {
        label: parser.parse_args(['--options', *options.split()]).options
        for label, options in rows
    }


@pytest.mark.parametrize(
    ('label', 'options'), ablations().items(), ids=ablations().keys()
)
def test_ablations_by_option_alone(label, options, photoshapes, default):
    """Each trains, and those in bold are what the config does anyway."""
    check_cfg_options(Config.fromfile(PAPER[-1]), options)
    losses = losses_of(POSFIELD, photoshapes, options)
    assert all(math.isfinite(value) for value in losses.values())
    same = '**' in label or 'frozen' in label
    assert (losses == default) == same


def test_table_3(photoshapes):
    """Its rows by config are those by option; without both parts it is DINOv2."""
    tables = [options for label, options in ablations().items() if label[:2] == '3,']
    names = ('dinov2', 'posfield-field', 'posfield-lpos')
    for name, options in zip(names, tables, strict=True):
        by_option = losses_of(POSFIELD, photoshapes, options)
        path = FOLDER / f'{name}_vit-tiny-p16_photoshapes.py'
        assert losses_of(path, photoshapes) == by_option, name


def test_the_tables_are_complete():
    """Tabs. 3, 4 and 5, each row with what the paper reports for it."""
    rows = re.findall(r'^\| (\d\w?), .*\| (\d+\.\d, \d+\.\d) \|$', README, re.MULTILINE)
    default = '44.8, 39.8'
    assert rows == [
        ('3', '41.3, 37.2'),
        ('3', '43.2, 38.6'),
        ('3', '43.7, 39.1'),
        ('4a', '43.0, 38.6'),
        ('4a', '43.7, 39.0'),
        ('4a', default),
        ('4b', '44.4, 39.7'),
        ('4b', default),
        ('5a', '44.4, 39.7'),
        ('5a', default),
        ('5b', '43.4, 38.9'),
        ('5b', '21.7, 20.7'),
        ('5b', default),
    ]


@pytest.mark.parametrize('with_options', [False, True])
def test_a_training(shrink, with_options):
    """Hooks find what they move; what should not decay does not; 12 steps are sound."""
    options = {
        'train_cfg.max_epochs': 2,
        'param_scheduler.1.end': 2,
        'model.head.num_prototypes': 32,
    }
    if with_options:  # two rows of the README's table
        options['custom_hooks.1.epochs'] = 0
        options['model.backbone.layer_scale_init_value'] = 1e-5
    cfg = shrink(POSFIELD, options)
    runner = build_runner(cfg)
    model = runner.model
    prototypes, epochs = model.heads['position'].prototypes.weight, []
    call_hook = runner.call_hook

    def spy(name: str, **kwargs) -> None:
        if name in ('before_train', 'after_train_epoch'):
            epochs.append(prototypes.detach().clone())
        call_hook(name, **kwargs)

    runner.call_hook = spy
    runner.train()
    start, first, second = epochs
    assert torch.equal(start, first) != with_options
    assert not torch.equal(first, second)
    teacher = model.target_heads['position'].prototypes.weight
    assert not torch.equal(teacher, start)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = runner.optim_wrapper.optimizer.param_groups
    decay = {names[id(p)]: g['weight_decay'] for g in groups for p in g['params']}
    spared = (
        r'bias$|\.ln\d\.|\.gamma\d\.|mask_token$|cls_token$|pos_embed$|field\.samples$'
    )
    assert all((decay[name] == 0) == bool(re.search(spared, name)) for name in decay)
    assert {'pos_mask_token', 'backbone.field.samples', 'heads.cls.mlp.0.weight'} <= {
        *decay
    }
    assert ('backbone.layers.0.attn.gamma1.weight' in decay) == with_options
