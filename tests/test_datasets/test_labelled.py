"""Labelled data is found, or the expected layout is named, before anything runs."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmpospretrain.datasets.labelled import (
    FILES as FILES_OF,
    LAYOUTS,
    check_layout,
    labelled_datasets,
    set_data_root,
)

TRANSFER = Path(__file__).parents[2] / 'configs/transfer'
COCO = 'detection/mask-rcnn_vitdet-base-p16_8xb2-88k_coco.py'
ADE = 'segmentation/upernet_vit-base-p16_8xb2-80k_ade20k.py'
IN1K = 'classification/vit-base-p16_8xb128-coslr-100e_in1k.py'
# What a user has on disk, by config.
FILES = {
    COCO: [
        'annotations/instances_train2017.json',
        'annotations/instances_val2017.json',
        'train2017/000000000009.jpg',
        'val2017/000000000139.jpg',
    ],
    ADE: [
        'images/training/ADE_train_00000001.jpg',
        'images/validation/ADE_val_00000001.jpg',
        'annotations/training/ADE_train_00000001.png',
        'annotations/validation/ADE_val_00000001.png',
    ],
    IN1K: ['train/n01440764/n01440764_18.JPEG', 'val/n01440764/ILSVRC2012_val_1.JPEG'],
}


def lay_out(root: Path, config: str) -> None:
    for name in FILES[config]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize('config', FILES)
def test_the_documented_layout_is_enough(config, tmp_path):
    cfg = Config.fromfile(TRANSFER / config)
    set_data_root(cfg, str(tmp_path / 'mine'))
    lay_out(tmp_path / 'mine', config)
    check_layout(cfg)
    kind = {COCO: 'CocoDataset', ADE: 'ADE20KDataset', IN1K: 'ImageNet'}[config]
    for name in FILES[config]:
        assert Path(name).name in LAYOUTS[kind] or '_val_' in name


@pytest.mark.parametrize('config', FILES)
def test_each_missing_part_is_named(config, tmp_path):
    for index, missing in enumerate(FILES[config]):
        root = tmp_path / str(index)
        lay_out(root, config)
        (root / missing).unlink()
        folder = (root / missing).parent
        if missing.endswith('.json'):
            lost = root / missing
        else:
            lost = folder
            folder.rmdir()
            if config == IN1K:
                lost = folder.parent
                lost.rmdir()
        cfg = Config.fromfile(TRANSFER / config)
        set_data_root(cfg, str(root))
        with pytest.raises(FileNotFoundError) as error:
            check_layout(cfg)
        assert f'there is no {lost},' in str(error.value)
        assert 'Expected:\nDIR/\n' in str(error.value) or '(ADEChall' in str(
            error.value
        )
        assert '--data' in str(error.value)


def test_no_folder_at_all(tmp_path):
    cfg = Config.fromfile(TRANSFER / COCO)
    set_data_root(cfg, str(tmp_path / 'nothing'))
    with pytest.raises(FileNotFoundError, match=r'no .*nothing, which CocoDataset'):
        check_layout(cfg)


@pytest.mark.parametrize(
    'name',
    [
        'detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py',
        'segmentation/upernet_vit-tiny-p16_photoshapes.py',
        'classification/vit-tiny-p16_photoshapes.py',
    ],
)
def test_photoshapes_says_how_to_make_it(name, tmp_path):
    cfg = Config.fromfile(TRANSFER / name)
    set_data_root(cfg, str(tmp_path / 'mine'))
    with pytest.raises(FileNotFoundError, match=r'photoshapes DIR$'):
        check_layout(cfg)


def test_wrappers_and_evaluators_follow(tmp_path):
    cfg = Config.fromfile(TRANSFER / COCO)
    assert cfg.train_dataloader.dataset.type == 'RepeatDataset'
    set_data_root(cfg, str(tmp_path))
    assert [d.data_root for d in labelled_datasets(cfg)] == [str(tmp_path)] * 3
    ann_file = str(tmp_path / 'annotations/instances_val2017.json')
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == ann_file


def test_an_evaluator_elsewhere_stays():
    cfg = Config.fromfile(TRANSFER / COCO)
    cfg.val_evaluator.ann_file = '/elsewhere/val.json'
    set_data_root(cfg, '/mine')
    assert cfg.val_evaluator.ann_file == '/elsewhere/val.json'


@pytest.mark.parametrize(
    ('name', 'files'),
    [
        ('vit-small-p4_1xb256-coslr-400e_cifar100.py', FILES_OF['CIFAR100']),
        ('vit-base-p16_8xb96-coslr-1000e_cifar10.py', FILES_OF['CIFAR10']),
    ],
)
def test_files_of_cifar(name, files, tmp_path):
    for missing in files:
        root = tmp_path / missing.replace('/', '_')
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        cfg = Config.fromfile(TRANSFER / 'classification' / name)
        set_data_root(cfg, str(root))
        check_layout(cfg)
        (root / missing).unlink()
        with pytest.raises(FileNotFoundError, match='Expected:\nDIR/\n') as error:
            check_layout(cfg)
        assert f'there is no {root / missing}, which CIFAR' in str(error.value)


@pytest.mark.parametrize('name', ['TinyImageNet', 'StanfordCars'])
def test_ours_show_their_layout(name, tmp_path):
    dataset = dict(type=f'mmpospretrain.{name}', data_root=str(tmp_path / 'nothing'))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    with pytest.raises(FileNotFoundError) as error:
        check_layout(cfg)
    assert str(error.value).endswith(LAYOUTS[name])
