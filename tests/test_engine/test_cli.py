"""What the tools share."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from yapf.yapflib import yapf_api

from mmpospretrain.engine.cli import (
    build_runner,
    load_config,
    set_data,
    set_pretrained,
)
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.evaluation.study import Study

CONFIGS = Path(__file__).parents[2] / 'configs'
CONFIG = CONFIGS / 'droppos/droppos_vit-tiny-p16_photoshapes.py'
UPERNET = CONFIGS / 'transfer/segmentation/upernet_vit-tiny-p16_photoshapes.py'
DETECTOR = CONFIGS / 'transfer/detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py'


@pytest.mark.parametrize('stage', [None, 'train', 'test'])
def test_an_interruption_under_another_name(stage, monkeypatch, capsys):
    """MMEngine makes a SyntaxError of one that comes while it formats the config."""
    hub = SimpleNamespace(runtime_info={})
    monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
    hub.runtime_info.update(loop_stage=stage, last_ckpt='work/epoch_3.pth')
    monkeypatch.setattr(os, '_exit', sys.exit)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(yapf_api, 'FormatCode', stop)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, readable_errors():
        Config(dict(a=1)).pretty_text  # noqa: B018, a property
    signal.signal(signal.SIGTERM, handler)
    assert stopped.value.code == 130
    way_on = '; the last checkpoint is work/epoch_3.pth. Go on with --resume'
    expected = f'\ninterrupted{way_on if stage == "train" else ""}\n'
    assert capsys.readouterr().err == expected


def test_load_config():
    cfg = load_config(str(CONFIG), {'model.mask_ratio': 0.5})
    assert cfg.model.mask_ratio == 0.5
    with pytest.raises(ValueError, match=r"model\.mask_ratoi.*'mask_ratio'"):
        load_config(str(CONFIG), {'model.mask_ratoi': 0.5})


def test_load_config_of_another_library():
    cfg = load_config('mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py')
    assert cfg.model.type == 'MAE'


def test_no_config():
    with pytest.raises(FileNotFoundError, match=r"no config 'nowhere\.py'"):
        load_config('nowhere.py')


@pytest.fixture(params=[True, False], ids=['cls', 'no cls'])
def checkpoint(request, tmp_path):
    """What is looked at of a checkpoint, and whether it has a [CLS]."""
    names = ['pos_embed', 'cls_token'] if request.param else ['pos_embed']
    weights = {f'backbone.{name}': torch.zeros(1) for name in names}
    weights['backbone.register_tokens'] = torch.zeros(1, 4, 32)
    torch.save({'state_dict': weights}, tmp_path / 'some.pth')
    return str(tmp_path / 'some.pth'), request.param


def test_a_backbone_has_cls_and_registers_as_its_checkpoint(checkpoint):
    path, has_cls = checkpoint
    cfg = load_config(str(UPERNET))
    set_pretrained(cfg, path)
    assert cfg.model.backbone.with_cls_token == has_cls
    assert cfg.model.backbone.num_registers == 4
    assert cfg.model.backbone.init_cfg.checkpoint == path
    cfg = load_config(str(UPERNET), {'model.backbone.with_cls_token': True})
    set_pretrained(cfg, path)
    assert cfg.model.backbone.with_cls_token
    cfg = load_config(str(DETECTOR))
    set_pretrained(cfg, path)
    assert 'with_cls_token' not in cfg.model.backbone


def test_all_starts_of_a_study_are_one_architecture(checkpoint, tmp_path):
    path, has_cls = checkpoint
    starts = {'pre-trained': path, 'scratch': 'none'}
    study = Study('segmentation', str(UPERNET), None, {}, starts, 1, 1, tmp_path)
    option = 'model.backbone.with_cls_token=False'
    for job in study.jobs():
        assert (option in job.arguments) == (not has_cls)
    assert study.cfg.model.backbone.get('with_cls_token', True) == has_cls


def test_labels_for_knn_come_with_the_data(tmp_path, image_folder):
    cfg = load_config(str(CONFIG))
    (tmp_path / 'labels').mkdir()
    for split in ('train', 'val'):
        (tmp_path / split).symlink_to(image_folder / split)
        (tmp_path / f'labels/count_{split}.txt').touch()
    set_data(cfg, str(tmp_path))
    (hook,) = [hook for hook in cfg.custom_hooks if 'KNN' in hook.type]
    assert hook.train.data_root == hook.val.data_root == str(tmp_path)
    # Labels of one's own, as configs/stop/README.md has them, stay.
    cfg = load_config(str(CONFIG))
    for dataset in (cfg.custom_hooks[-1].train, cfg.custom_hooks[-1].val):
        dataset.pop('ann_file')
        dataset.data_root = 'data/mine'
    set_data(cfg, str(image_folder))
    assert cfg.custom_hooks[-1].train.data_root == 'data/mine'
    cfg = load_config(str(CONFIG))
    set_data(cfg, str(image_folder))
    assert not [hook for hook in cfg.custom_hooks if 'KNN' in hook.type]


@pytest.mark.parametrize('name', [b'caf\xe9.jpg', b'\xff\xfe', b'a\xc3.png'])
def test_names_that_are_not_utf_8_are_printed(name, capfd, monkeypatch):
    with open(os.dup(1), 'w', encoding='utf-8') as stdout:
        monkeypatch.setattr(sys, 'stdout', stdout)
        with readable_errors():
            print(os.fsdecode(name))
    assert r'\udc' in capfd.readouterr().out


@pytest.mark.parametrize('name', [b'caf\xe9.jpg', b'\xff\xfe', b'a\xc3.png'])
def test_names_that_are_not_utf_8_are_logged(name, tiny_config, tmp_path, capfd):
    runner = build_runner(tiny_config())
    runner.logger.info(f'read {os.fsdecode(name)}')
    (log,) = tmp_path.glob('work/*/*.log')
    assert r'read ' in log.read_text()
    assert r'\udc' in log.read_text().splitlines()[-1]
    assert 'Logging error' not in capfd.readouterr().err
