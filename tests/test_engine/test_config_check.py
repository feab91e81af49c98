"""Misspelt keys are found, and right ones are let through."""

import copy
import functools
import re

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from torch import nn

from mmpospretrain.engine import config_check
from mmpospretrain.engine.config_check import check_cfg_options, check_config

MAE = 'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'


@functools.cache
def load(path):
    return Config.fromstring(f'_base_ = {path!r}', '.py')


@pytest.fixture
def cfg():
    return copy.deepcopy(load(MAE))


def problems(check, *args, what='keys'):
    start = f'wrong {what} in the config:'
    with pytest.raises(ValueError, match=f'^{start}') as error:
        check(*args)
    lines = str(error.value).removeprefix(start).strip().splitlines()
    return [line.strip() for line in lines]


def set_key(cfg, path, value=1):
    *parents, key = path.split('.')
    node = cfg
    for parent in parents:
        node = node[int(parent) if isinstance(node, list) else parent]
    node[int(key) if isinstance(node, list) else key] = value


@pytest.mark.parametrize(
    ('path', 'reader', 'meant'),
    [
        # constructors
        ('model.backbone.patchsize', 'MAEViT', 'patch_size'),
        ('model.head.norm_pixel', 'MAEPretrainHead', 'norm_pix'),
        ('model.head.loss.criterions', 'PixelReconstructionLoss', 'criterion'),
        ('model.init_cfg.0.laier', 'XavierInit', 'layer'),
        ('train_dataloader.dataset.data_rot', 'ImageNet', 'data_root'),  # **kwargs
        ('train_dataloader.dataset.pipeline.1.scal', 'RandomResizedCrop', 'scale'),
        ('train_dataloader.sampler.shufle', 'DefaultSampler', 'shuffle'),
        ('optim_wrapper.optimizer.betes', 'AdamW', 'betas'),
        ('optim_wrapper.loss_scal', 'AmpOptimWrapper', 'loss_scale'),
        ('optim_wrapper.accumulative_count', 'AmpOptimWrapper', 'accumulative_counts'),
        ('param_scheduler.0.start_facto', 'LinearLR', 'start_factor'),
        ('default_hooks.logger.intervall', 'LoggerHook', 'interval'),
        ('default_hooks.checkpoint.save_optimiser', 'CheckpointHook', 'save_optimizer'),
        ('train_cfg.max_epoch', 'EpochBasedTrainLoop', 'max_epochs'),
        ('visualizer.vis_backend', 'UniversalVisualizer', 'vis_backends'),
        # places
        ('train_dataloader.batchsize', 'train_dataloader', 'batch_size'),
        ('env_cfg.cudnn_benchmarks', 'env_cfg', 'cudnn_benchmark'),
        ('env_cfg.dist_cfg.backnd', 'env_cfg.dist_cfg', 'backend'),
        ('env_cfg.mp_cfg.mp_start_metod', 'env_cfg.mp_cfg', 'mp_start_method'),
        ('randomness.sed', 'randomness', 'seed'),
        ('default_hooks.chekpoint', 'default_hooks', 'checkpoint'),
        ('auto_scale_lr.enabled', 'auto_scale_lr', 'enable'),
        ('auto_scale_lr.rul', 'auto_scale_lr', 'rule'),
        (
            'optim_wrapper.paramwise_cfg.norm_decay_mul',
            'DefaultOptimWrapperConstructor',
            'norm_decay_mult',
        ),
        (
            'optim_wrapper.paramwise_cfg.custom_keys.ln.decay_mlt',
            'custom_keys',
            'decay_mult',
        ),
    ],
)
def test_misspelt_key(cfg, path, reader, meant):
    check_config(cfg)
    set_key(cfg, path)
    expected = f"{path}: unknown key of {reader}; did you mean '{meant}'?"
    assert problems(check_config, cfg) == [expected]


def test_misspelt_clip_grad(cfg):
    cfg.optim_wrapper.clip_grad = dict(type='norm', max_norms=1.0)
    (problem,) = problems(check_config, cfg)
    assert problem.endswith("clip_grad; did you mean 'max_norm'?")


@pytest.mark.parametrize(
    ('key', 'meant'),
    [
        ('optm_wrapper', 'optim_wrapper'),
        ('train_cgf', 'train_cfg'),
        ('custom_hook', 'custom_hooks'),
        ('load_form', 'load_from'),
        ('find_unused_paramters', 'find_unused_parameters'),
    ],
)
def test_misspelt_on_the_top_level(cfg, key, meant):
    cfg[key] = dict()
    expected = f"{key}: unknown key; did you mean '{meant}'?"
    assert problems(check_config, cfg) == [expected]


def test_every_problem_is_named(cfg):
    cfg.model.backbone.patchsize = 16
    cfg.model.backbone.type = 'MAEVit'
    cfg.optim_wraper = dict()
    cfg.optim_wrapper.optimizer.sparkle = True
    found = problems(check_config, cfg)
    assert [line.partition(':')[0] for line in found] == [
        'model.backbone.type',  # its keys are anybody's guess then
        'optim_wraper',
        'optim_wrapper.optimizer.sparkle',
    ]
    assert 'known are amsgrad, betas' in found[2]


@pytest.mark.parametrize(
    ('path', 'name', 'hint'),
    [
        ('model.type', 'mae', "did you mean 'MAE'?"),
        ('model.neck.type', 'MAEPretrainDecodr', "did you mean 'MAEPretrainDecoder'?"),
        # A metric is nearly called so, but that is no data set.
        ('train_dataloader.dataset.type', 'Acuracy', 'mmpretrain has nothing like it'),
        (
            'train_dataloader.dataset.pipeline.1.type',
            'RandomResizeCrop',
            "did you mean 'RandomResizedCrop'?",
        ),
        ('default_hooks.timer.type', 'IterTimeHook', "did you mean 'IterTimerHook'?"),
        ('optim_wrapper.optimizer.type', 'AdmW', "did you mean 'AdamW'?"),
        ('model.type', 'mmpospretrain.DropPoss', "did you mean 'DropPos'?"),
    ],
)
def test_unknown_type(cfg, path, name, hint):
    set_key(cfg, path, name)
    assert f'{path}: unknown type {name!r}; {hint}' in problems(check_config, cfg)


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('my_pipeline', [dict(type='Nonsense')]),  # variables of the file
        ('val_evaluator_coco', dict()),
        ('default_hooks.logger2', dict(type='LoggerHook')),
        ('custom_hooks', [dict(type='EMAHook', momentum=1e-4, priority='LOW')]),
        ('model.init_cfg', dict(type='Normal', std=0.1, override=dict(name='neck'))),
        ('model.backbone.norm_cfg', dict(type='BN', requires_grad=False)),
        ('train_cfg', dict(by_epoch=False, max_iters=4)),
        ('optim_wrapper.paramwise_cfg.custom_keys.ln', dict(lars_exclude=True)),
        ('optim_wrapper.paramwise_cfg', dict(custom_keys=dict(a=dict(lr=1.0)))),
        # An unknown constructor reads what it likes.
        (
            'optim_wrapper',
            dict(constructor='Mine', optimizer=None, paramwise_cfg=dict(anything=1)),
        ),
        # Keys that the parent takes out.
        (
            'train_dataloader.dataset.pipeline.1',
            dict(
                type='RandAugment',
                policies=[dict(type='Posterize', magnitude_key='bits')],
                num_policies=1,
                magnitude_level=5,
            ),
        ),
        # A data set of a library that is not there: building will say so.
        ('train_dataloader.dataset', dict(type='mmabsent.Photos', rot='x')),
        ('default_hooks.checkpoint', dict(type=CheckpointHook, backend_args=None)),
        ('model.backbone', dict(type='mmengine.hooks.CheckpointHook', interval=2)),
        ('model.backbone', dict(type=nn.Linear, in_features=2)),
        # Not where it belongs, but known: to build it is not this check's business.
        ('model.neck', dict(type='ResizeEdge', depth=2)),
        ('model.neck', None),
        ('auto_scale_lr.rule', 'sqrt'),
    ],
)
def test_no_false_alarm(cfg, path, value):
    set_key(cfg, path, value)
    check_config(cfg)


def test_scope_of_a_part(cfg):
    cfg.model.neck = dict(_scope_='mmengine', type='MAEPretrainDecoder')
    assert problems(check_config, cfg)[0].startswith('model.neck.type: unknown type')


def test_classes_are_checked_too(cfg):
    cfg.default_hooks.checkpoint = dict(type=CheckpointHook, intervl=2)
    (problem,) = problems(check_config, cfg)
    assert problem.endswith("of CheckpointHook; did you mean 'interval'?")


@pytest.mark.parametrize(
    'path',
    [
        'mmpretrain::beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py',
        'mmpretrain::byol/byol_resnet50_16xb256-coslr-200e_in1k.py',
        'mmpretrain::itpn/itpn-clip-b_hivit-base-p16_8xb256-amp-coslr-800e_in1k.py',
        'mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py',
        'mmpretrain::maskfeat/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py',
        'mmpretrain::mixmim/mixmim_mixmim-base_16xb128-coslr-300e_in1k.py',
        'mmpretrain::mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py',
        'mmpretrain::simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py',
        'mmpretrain::resnest/resnest50_32xb64_in1k.py',
        'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'mmdet::detr/detr_r50_8xb2-150e_coco.py',
        'mmseg::upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py',
        'mmseg::segmenter/segmenter_vit-b_mask_8xb1-160k_ade20k-512x512.py',
    ],
)
def test_configs_of_the_libraries(path):
    if path.startswith(('mmdet', 'mmseg')):
        pytest.importorskip('mmcv.ops', exc_type=ImportError)
    check_config(load(path))


def test_option_below_a_part(cfg):
    check_cfg_options(
        cfg,
        {
            'model.backbone.patch_size': 8,  # new, but an argument of MAEViT
            'model.init_cfg.0.distribution': 'normal',
            'param_scheduler.1.T_max': 3,
            'train_dataloader.dataset.pipeline.1.scale': 96,
            'optim_wrapper.clip_grad.max_norm': 1.0,  # the parent is new, too
            'model.neck.init_cfg.std': 0.02,
            'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult': 10,
            'resume': True,
        },
    )


def test_option_of_a_type_among_the_options(cfg):
    options = {'optim_wrapper.type': 'OptimWrapper', 'optim_wrapper.dtype': 'bfloat16'}
    (problem,) = problems(check_cfg_options, cfg, options)
    assert problem.startswith('optim_wrapper.dtype: unknown key of OptimWrapper')
    options['optim_wrapper.type'] = 'AmpOptimWrapper'
    check_cfg_options(cfg, options)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            'model.backbone.patchsize',
            "unknown key of MAEViT; did you mean 'patch_size'",
        ),
        ('model.backbon.arch', "model.backbon: .* did you mean 'backbone'"),
        ('optim_wraper.optimizer.lr', "optim_wraper: .* did you mean 'optim_wrapper'"),
        ('dataset_typ', "dataset_typ: .* did you mean 'dataset_type'"),
        ('sparkle', 'unknown key of the config; known are activation_checkpointing'),
        ('param_scheduler.7.end', r"param_scheduler is a list of 2, there is no '7'"),
        ('param_scheduler.end', r"param_scheduler is a list of 2, there is no 'end'"),
        ('model.backbone.arch.depth', "model.backbone.arch is b, there is no 'depth'"),
        ('randomness.sed', "unknown key of randomness; did you mean 'seed'"),
    ],
)
def test_wrong_option(cfg, option, message):
    (problem,) = problems(check_cfg_options, cfg, {option: 1})
    assert re.search(message, problem)


def test_all_wrong_options_are_named(cfg):
    options = dict.fromkeys(['model.nek', 'sparkle', 'model.neck.depth'], 1)
    found = problems(check_cfg_options, cfg, options)
    assert [p.partition(':')[0] for p in found] == [
        'model.neck.depth',
        'model.nek',
        'sparkle',
    ]


def test_variable_as_option_is_no_silent_no_op(cfg, monkeypatch):
    log = []
    monkeypatch.setattr(config_check, 'print_log', lambda text, **_: log.append(text))
    check_cfg_options(cfg, {'data_preprocessor.mean': [0, 0, 0]})
    assert not log
    check_cfg_options(cfg, {'dataset_type': 'CIFAR10'})
    assert 'dataset_type is a variable of the config file' in log[0]
