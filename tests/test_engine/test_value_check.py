"""Values that cannot be meant are named, with what is allowed."""

import copy

import pytest
from mmengine.config import Config
from test_config_check import load, problems, set_key

from mmpospretrain.engine.cli import load_config
from mmpospretrain.engine.config_check import check_config
from mmpospretrain.engine.value_check import wrong_argument, wrong_value

OURS = 'configs/transfer/segmentation/upernet_vit-tiny-p16_photoshapes.py'
PRETRAINING = 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'


@pytest.fixture
def cfg(request):
    root = request.config.rootpath
    cfg = copy.deepcopy(load(str(root / PRETRAINING)))
    cfg.optim_wrapper.clip_grad = dict(max_norm=1.0)
    return cfg


@pytest.mark.parametrize(
    ('path', 'value', 'allowed'),
    [
        ('resume', 'Flase', 'True or False'),
        ('resume', 1, 'True or False'),
        ('compile', 'Ture', 'True or False or a dict'),
        ('find_unused_parameters', 'yes', 'True or False'),
        ('log_level', 'INFOO', "one of 'CRITICAL'"),
        ('launcher', 'torch', "one of 'none', 'pytorch', 'slurm', 'mpi'"),
        ('randomness.seed', -1, 'a whole number from 0 on or None'),
        ('randomness.deterministic', 'Ture', 'True or False'),
        ('env_cfg.cudnn_benchmark', 'on', 'True or False'),
        ('env_cfg.mp_cfg.mp_start_method', 'forc', "one of 'fork'"),
        ('auto_scale_lr.base_batch_size', 0, 'a whole number from 1 on'),
        ('auto_scale_lr.rule', 'squared', "one of 'linear', 'sqrt'"),
        ('train_cfg.max_epochs', -3, 'a whole number from 1 on'),
        ('train_cfg.max_epochs', 1.5, 'a whole number from 1 on'),
        ('train_cfg.val_interval', 0, 'a whole number from 1 on'),
        ('train_cfg.by_epoch', 'Ture', 'True or False'),
        ('train_dataloader.batch_size', 0, 'a whole number from 1 on'),
        ('train_dataloader.batch_size', True, 'a whole number from 1 on'),
        ('val_dataloader.num_workers', -1, 'a whole number from 0 on'),
        ('train_dataloader.drop_last', 'Ture', 'True or False'),
        ('train_dataloader.sampler.shuffle', 'Flase', 'True or False'),
        ('optim_wrapper.accumulative_counts', 1.5, 'a whole number from 1 on'),
        ('optim_wrapper.clip_grad.max_norm', -1, 'a number above 0'),
        ('optim_wrapper.clip_grad.max_norm', float('nan'), 'a number above 0'),
        ('optim_wrapper.optimizer.lr', -1e-4, 'a number from 0 on'),
        ('optim_wrapper.optimizer.lr', '1e-4x', 'a number from 0 on'),
        ('optim_wrapper.optimizer.weight_decay', -0.1, 'a number from 0 on'),
        ('optim_wrapper.optimizer.betas', (0.9, 1.5), 'two or more numbers from 0'),
        ('optim_wrapper.optimizer.betas', (0.9,), 'two or more numbers'),
        ('optim_wrapper.clip_grad', 1.0, 'a dict or None'),
        ('model', None, 'a dict'),
        ('env_cfg', None, 'a dict'),
        ('optim_wrapper.optimizer.amsgrad', 'Flase', 'True or False'),
        ('param_scheduler.0.begin', -1, 'a number from 0 on'),
        ('param_scheduler.0.start_factor', 2, 'a number from 0 to 1'),
        ('param_scheduler.1.T_max', -1, 'a number above 0'),
        ('param_scheduler.1.eta_min', -1e-3, 'a number from 0 on or None'),
        ('default_hooks.checkpoint.interval', 0, 'a whole number from 1 on'),
        ('default_hooks.checkpoint.max_keep_ckpts', 0, 'a whole number from 1 on'),
        ('default_hooks.checkpoint.rule', 'more', "one of 'greater', 'less'"),
        ('default_hooks.logger.interval', 2.5, 'a whole number from 1 on'),
        ('log_processor.window_size', 0, 'a whole number from 1 on'),
        ('model.backbone.drop_path_rate', 1.5, 'a number from 0 to 1'),
        ('model.backbone.drop_rate', -0.1, 'a number from 0 to 1'),
        ('model.head.num_classes', 0, 'a whole number from 1 on'),
        # by the signature of what is built
        ('model.backbone.with_cls_token', 'Flase', 'True or False'),
        ('model.backbone.in_channels', 'three', 'a number'),
        ('train_dataloader.dataset.max_broken_share', 'none', 'a number'),
    ],
)
def test_wrong_value(cfg, path, value, allowed):
    check_config(cfg)
    name, _, key = path.rpartition('.')
    if key == 'num_classes':
        cfg.model.head = dict(type='LinearClsHead', in_channels=4, num_classes=2)
    if name == 'auto_scale_lr':
        cfg.auto_scale_lr = dict(base_batch_size=8, enable=True)
    set_key(cfg, path, value)
    (line,) = problems(check_config, cfg, what='values')
    assert line.startswith(f'{path}: must be {allowed}')
    assert line.endswith(f', got {value!r}')


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('resume', True),
        ('compile', dict(mode='max-autotune')),
        ('log_level', 'DEBUG'),
        ('log_level', 10),
        ('randomness.seed', None),
        ('optim_wrapper.clip_grad', None),
        ('optim_wrapper.optimizer.lr', 0),
        ('param_scheduler.0.end', 0.5),  # of an epoch
        ('param_scheduler.1.T_max', 2.5),
        ('default_hooks.checkpoint.interval', -1),
        ('default_hooks.checkpoint.max_keep_ckpts', -1),
        ('default_hooks.checkpoint.save_best', ['auto']),
        ('train_dataloader.num_workers', 0),
        ('train_dataloader.prefetch_factor', None),
        ('model.backbone.drop_path_rate', 1),
        ('model.backbone.interpolate_mode', 'bilinear'),
        ('my_variable', dict(resume='Flase')),
        ('visualizer.vis_backends', [dict(type='TensorboardVisBackend')]),
    ],
)
def test_no_false_alarm(cfg, path, value):
    set_key(cfg, path, value)
    check_config(cfg)


@pytest.mark.parametrize('name', ['TensorbordVisBackend', 'WandB', 'Nonsense'])
def test_unknown_backend_of_the_visualizer(cfg, name):
    cfg.visualizer.vis_backends = [dict(type=name)]
    (line,) = problems(check_config, cfg)
    assert line.startswith(f'visualizer.vis_backends.0.type: unknown type {name!r}')


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('default_hooks.checkpoint.save_best', 'auto'),
        ('default_hooks.checkpoint.save_best', ['a', 'b']),
        ('custom_hooks', [dict(type='EarlyStoppingHook', monitor='loss')]),
    ],
)
def test_best_without_validation(cfg, path, value):
    set_key(cfg, path, value)
    check_config(cfg)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    (line,) = problems(check_config, cfg, what='values')
    assert 'is measured in validation, and there is none: give val_dataloader' in line


@pytest.mark.parametrize(('begin', 'end'), [(3, 2), (2, 2), (7.5, 7)])
def test_a_schedule_that_ends_before_it_begins(cfg, begin, end):
    cfg.param_scheduler[0].update(begin=begin, end=end)
    (line,) = problems(check_config, cfg, what='values')
    assert f'param_scheduler.0.end: must be above begin, which is {begin}' in line


def test_values_of_options(request):
    path = str(request.config.rootpath / OURS)
    load_config(path, {'train_cfg.max_iters': 5, 'resume': True})
    options = {
        'train_cfg.max_iters': -5,
        'resume': 'Flase',
        'model.backbone.init_cfg': 1,
    }
    with pytest.raises(ValueError, match='wrong values in the config') as error:
        load_config(path, options)
    assert 'resume: must be True or False, got' in str(error.value)
    assert 'train_cfg.max_iters: must be a whole number from 1 on, got -5' in str(
        error.value
    )


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('resume', 'Flase', "must be True or False, got 'Flase'"),
        ('train_cfg.max_iters', 0, 'must be a whole number from 1 on, got 0'),
        ('compil', True, "unknown key of the config; did you mean 'compile'?"),
    ],
)
def test_what_is_wrong_alone_is_said_in_one_line(request, key, value, words):
    with pytest.raises(ValueError, match=r'^wrong \w+ in the config: .*$') as error:
        load_config(str(request.config.rootpath / OURS), {key: value})
    assert str(error.value).endswith(f' {key}: {words}')


def test_only_options_are_judged_by_whoever_gave_them(cfg, tmp_path):
    cfg.resume = 'Flase'
    cfg.dump(tmp_path / 'wrong.py')
    load_config(str(tmp_path / 'wrong.py'), {'train_cfg.max_epochs': 2})
    with pytest.raises(ValueError, match=r'resume: must be True or False'):
        check_config(Config.fromfile(tmp_path / 'wrong.py'))


def annotated(a: int | None, b: 'bool' = True, c: str | int = 1, d: float = 1.0):
    pass


def bare(a=1, b=False, c=None, d='x', e=1.0):
    pass


@pytest.mark.parametrize(
    ('target', 'wrong'), [(annotated, 'abd'), (bare, 'abe'), (min, '')]
)
def test_arguments_that_are_no_text(target, wrong):
    found = [k for k in 'abcde' if wrong_argument(f'x.{k}', 'text', target, k)]
    assert ''.join(found) == wrong
    assert wrong_argument('x.a', 1.5, target, 'a') is None


def test_unknown_places_are_left_alone():
    assert wrong_value('model.neck.whatever', 'Flase') is None
