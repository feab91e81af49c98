"""Configs in pure Python, whose types are classes, are as those with names."""

import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.model import PretrainedInit
from mmengine.registry import DATASETS, HOOKS, WEIGHT_INITIALIZERS

from mmpospretrain.datasets import ImageFolder, TinyImageNet
from mmpospretrain.engine.cli import load_config, set_data, set_pretrained
from mmpospretrain.engine.config_check import check_config
from mmpospretrain.engine.hooks import KNNHook
from mmpospretrain.models import PositionViT
from mmpospretrain.registry import builds, registered
from mmpospretrain.zoo import PretrainedBackbone
from mmpospretrain.zoo.pretrained import strict_init_cfg, without_pretrained

ROOT = Path(__file__).parents[2]
NEW_STYLE = ROOT / 'tests/new_style.py'


@pytest.fixture(params=['as written', 'dumped'])
def cfg(request, tmp_path):
    if request.param == 'as written':
        return load_config(str(NEW_STYLE))
    Config.fromfile(NEW_STYLE).dump(tmp_path / 'dumped.py')
    return load_config(str(tmp_path / 'dumped.py'))


def test_data(cfg, image_folder):
    set_data(cfg, str(image_folder))
    assert cfg.train_dataloader.dataset.data_root == str(image_folder / 'train')
    assert cfg.val_dataloader.dataset.data_root == str(image_folder / 'val')
    # There are no labels for kNN there.
    assert not any(builds(hook, KNNHook, HOOKS) for hook in cfg.custom_hooks)


def test_labels_for_knn_come_with_the_data(cfg, image_folder, tmp_path):
    (tmp_path / 'labels').mkdir()
    for split in ('train', 'val'):
        (tmp_path / split).symlink_to(image_folder / split)
        (tmp_path / f'labels/{split}.txt').touch()
    set_data(cfg, str(tmp_path))
    (hook,) = [hook for hook in cfg.custom_hooks if builds(hook, KNNHook, HOOKS)]
    assert hook.train.data_root == hook.val.data_root == str(tmp_path)


def test_a_backbone_has_the_tokens_of_its_checkpoint(cfg, tmp_path):
    cfg.model.backbone.init_cfg = dict(type=PretrainedInit, prefix='backbone.')
    weights = {'backbone.register_tokens': torch.zeros(1, 4, 32)}
    torch.save({'state_dict': weights}, tmp_path / 'some.pth')
    set_pretrained(cfg, str(tmp_path / 'some.pth'))
    assert cfg.model.backbone.num_registers == 4
    assert not cfg.model.backbone.with_cls_token
    assert cfg.model.backbone.init_cfg.prefix == 'backbone.'


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('model.backbone.patchsize', 16, "of PositionViT; did you mean 'patch_size'"),
        ('optim_wrapper.optimizer.betes', 1, "of AdamW; did you mean 'betas'"),
        ('train_cfg.max_epochs', -3, 'must be a whole number from 1 on, got -3'),
        ('model.backbone.drop_path_rate', 2, 'must be a number from 0 to 1'),
    ],
)
def test_keys_and_values_are_checked(cfg, key, value, words):
    check_config(cfg)
    cfg.merge_from_dict({key: value})
    with pytest.raises(ValueError, match=rf'{key}: .*{words}'):
        check_config(cfg)


def test_published_as_trained(cfg):
    tool = runpy.run_path(str(ROOT / 'tools/publish_model.py'))
    meta = dict(cfg=cfg.pretty_text)
    tool['check_trained_with'](cfg, meta, NEW_STYLE)
    other = load_config(str(NEW_STYLE), {'model.mask_ratio': 0.5})
    with pytest.raises(ValueError, match=r'model\.mask_ratio is 0\.25, not 0\.5'):
        tool['check_trained_with'](other, meta, NEW_STYLE)


@pytest.mark.parametrize(
    ('name', 'registry', 'kind'),
    [
        ('mmpospretrain.ImageFolder', DATASETS, ImageFolder),
        ('mmpospretrain.datasets.ImageFolder', DATASETS, ImageFolder),
        ('mmpospretrain.datasets.image_folder.ImageFolder', DATASETS, ImageFolder),
        (ImageFolder, DATASETS, ImageFolder),
        ('CheckpointHook', HOOKS, CheckpointHook),
        ('mmengine.hooks.CheckpointHook', HOOKS, CheckpointHook),
        ('Nothing', HOOKS, None),
        (None, HOOKS, None),
    ],
)
def test_registered(name, registry, kind):
    assert registered(name, registry) is kind
    assert builds(dict(type=name), object, registry) == (kind is not None)


def test_a_lazy_object_stands_for_its_class():
    parsed = Config.fromfile(NEW_STYLE)._cfg_dict
    raw = dict.__getitem__(dict.__getitem__(parsed, 'model'), 'backbone')
    lazy = dict.__getitem__(raw, 'type')
    assert not isinstance(lazy, type)
    assert registered(lazy, DATASETS) is PositionViT


def test_a_subclass_is_one_too():
    assert builds(dict(type='mmpospretrain.TinyImageNet'), ImageFolder, DATASETS)
    assert not builds(dict(type=ImageFolder), TinyImageNet, DATASETS)


@pytest.mark.parametrize(
    'kind',
    [
        'Pretrained',
        PretrainedInit,
        'mmengine.model.PretrainedInit',
        'mmpospretrain.PretrainedBackbone',
        PretrainedBackbone,
    ],
)
def test_initialisers_that_load(kind):
    normal = dict(type='Normal', std=0.1)
    cfgs = strict_init_cfg([dict(type=kind, checkpoint='x'), normal])
    assert cfgs[0] == normal
    assert registered(cfgs[1]['type'], WEIGHT_INITIALIZERS) is PretrainedBackbone
    both = dict(init_cfg=[dict(type=kind, checkpoint='x'), normal])
    assert without_pretrained(both) == dict(init_cfg=[normal])
