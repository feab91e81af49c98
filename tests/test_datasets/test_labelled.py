"""Labelled data is found, or the expected layout is named, before anything runs."""

import json
from pathlib import Path

import pytest
from categories import rename
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmpospretrain.datasets.labelled import (
    FILES as FILES_OF,
    LAYOUTS,
    check_layout,
    labelled_datasets,
    set_data_root,
)
from mmpospretrain.datasets.scenes import SHAPES

TRANSFER = Path(__file__).parents[2] / 'configs/transfer'
COCO = 'detection/mask-rcnn_vitdet-base-p16_8xb2-88k_coco.py'
ADE = 'segmentation/upernet_vit-base-p16_8xb2-80k_ade20k.py'
IN1K = 'classification/vit-base-p16_8xb128-coslr-100e_in1k.py'
SHAPES_COCO = 'detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py'
SHAPES_SEG = 'segmentation/upernet_vit-tiny-p16_photoshapes.py'
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
        if name.endswith('.json'):
            image = next(
                Path(n).name for n in FILES[config] if n[:3] == path.stem[10:13]
            )
            write_categories(path, coco_names(), **one_object(image))
        elif config == COCO:
            Image.new('RGB', (64, 48)).save(path)
        else:  # a grey image is a map as well
            Image.new('L' if path.suffix == '.png' else 'RGB', (8, 8), 1).save(path)


def one_object(image: str) -> dict:
    where = dict(bbox=[8, 8, 32, 16], area=512, segmentation=[[8, 8, 40, 8, 8, 24]])
    return dict(
        images=[dict(id=9, file_name=image, width=64, height=48)],
        annotations=[dict(where, id=1, image_id=9, category_id=1, iscrowd=0)],
    )


def coco_names() -> tuple[str, ...]:
    """MMDetection's, which stand in no config."""
    from mmdet.datasets import CocoDataset

    return CocoDataset.METAINFO['classes']


def write_categories(path: Path, names, **content) -> None:
    categories = [dict(id=k, name=name) for k, name in enumerate(names, start=1)]
    path.write_text(json.dumps(dict(content, categories=categories)))


@pytest.mark.parametrize('config', FILES)
def test_the_documented_layout_is_enough(config, tmp_path):
    cfg = Config.fromfile(TRANSFER / config)
    set_data_root(cfg, str(tmp_path / 'mine'))
    lay_out(tmp_path / 'mine', config)
    if config == IN1K:  # one of the thousand folders
        for dataset in labelled_datasets(cfg):
            dataset.metainfo = dict(classes=['n01440764'])
        cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 1
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
        SHAPES_COCO,
        SHAPES_SEG,
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


def config_on(folder: Path, name: str) -> Config:
    cfg = Config.fromfile(TRANSFER / name)
    set_data_root(cfg, str(folder))
    return cfg


@pytest.mark.parametrize('name', [SHAPES_COCO, SHAPES_SEG])
def test_photoshapes_as_drawn_are_fine(name, shapes):
    check_layout(config_on(shapes, name))


@pytest.mark.parametrize(
    ('names', 'only_file', 'only_config', 'number'),
    [
        # The config names a subset of nothing: it is another data set's.
        (['bolt', 'nut', 'triangle', 'star'], 'bolt, nut', 'circle, square', 4),
        (['bolt', 'nut'], 'bolt, nut', ', '.join(SHAPES), 2),
        # A class more could be meant to be left out; but nobody said so.
        ([*SHAPES, 'bolt'], 'bolt', 'none', 5),
    ],
)
def test_other_categories(names, only_file, only_config, number, mine):
    rename(mine, names)
    with pytest.raises(ValueError) as error:
        check_layout(config_on(mine, SHAPES_COCO))
    message = str(error.value)
    assert message.startswith(f'{mine / "annotations/instances_train.json"} has other')
    assert f'Only in the file: {only_file}\n' in message
    assert f'Only in the config: {only_config}\n' in message
    assert f'num_classes={number} into' in message
    assert 'subset=True' in message
    assert '## Your classes' in (TRANSFER / 'README.md').read_text()
    assert message.count('\n') == 3


def test_coco_s_names_need_no_metainfo(tmp_path):
    """They are MMDetection's; long lists are cut."""
    lay_out(tmp_path, COCO)
    path = tmp_path / 'annotations/instances_val2017.json'
    write_categories(path, [f'part {k}' for k in range(12)])
    with pytest.raises(ValueError, match=r'part 9 and 2 more\n') as error:
        check_layout(config_on(tmp_path, COCO))
    assert f'{path} has other classes' in str(error.value)
    assert 'boat, traffic light and 70 more\n' in str(error.value)


def test_a_file_may_lack_the_last_classes(mine):
    """Of val, for example: all labels stay as they are."""
    rename(mine, SHAPES[:3])
    check_layout(config_on(mine, SHAPES_COCO))


def test_a_subset_must_be_asked_for(mine):
    def check(classes, **options):
        cfg = config_on(mine, SHAPES_COCO)
        for dataset in labelled_datasets(cfg):
            dataset.metainfo = dict(classes=classes, **options)
        for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
            head.num_classes = len(classes)
        check_layout(cfg)

    with pytest.raises(ValueError, match='Only in the file: circle, triangle\n'):
        check(('square', 'star'))
    check(('square', 'star'), subset=True)
    for classes in (('bolt',), ('square', 'bolt')):  # of other data, or misspelt
        with pytest.raises(ValueError, match='Only in the config: bolt\n'):
            check(classes, subset=True)


@pytest.mark.parametrize(
    'names',
    [('circle', 'triangle', 'square', 'star'), ('circle', 'triangle', 'star')],
)
def test_categories_in_another_order(names, mine):
    """MMDetection would take the file's triangles for the config's squares."""
    rename(mine, names)
    cfg = config_on(mine, SHAPES_COCO)
    with pytest.raises(
        ValueError, match=r"1 is 'triangle' in the file and 'square' in the config"
    ):
        check_layout(cfg)
    init_default_scope('mmdet')
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert dataset.cat2label[2] == 1  # this is why
    assert dataset.metainfo['classes'][1] == 'square'


def test_a_category_twice(mine):
    """There would be a label more than classes."""
    rename(mine, (*SHAPES, 'star'))
    with pytest.raises(ValueError, match="4 is 'star' in the file and None in the"):
        check_layout(config_on(mine, SHAPES_COCO))


def test_classes_in_a_file_and_as_a_word(mine, tmp_path):
    listing = tmp_path / 'classes.txt'
    listing.write_text('\n'.join(SHAPES))
    cfg = config_on(mine, SHAPES_COCO)
    for dataset in labelled_datasets(cfg):
        dataset.metainfo = dict(classes=str(listing))
    check_layout(cfg)
    cfg.val_dataloader.dataset.metainfo.classes = 'circle'
    with pytest.raises(ValueError, match=r"written classes=\('circle',\)"):
        check_layout(cfg)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'is not JSON'),
        ('{"categories": [{"id": 1, "na', 'is not JSON'),
        ('{"images": [], "annotations": []}', "is not in COCO's format"),
        ('{"categories": []}', "is not in COCO's format"),
        ('{"categories": [{"id": 1}]}', "is not in COCO's format"),
        ('[1]', "is not in COCO's format"),
    ],
)
def test_what_is_not_coco(text, message, mine):
    path = mine / 'annotations/instances_val.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        check_layout(config_on(mine, SHAPES_COCO))
    assert str(error.value).startswith(str(path))


def test_relatives_of_coco_with_a_reader_of_their_own(tmp_path):
    """LVIS takes all categories of a file, whatever they are called."""
    write_categories(tmp_path / 'lvis.json', ['bolt'])
    dataset = dict(type='LVISV1Dataset', data_root=str(tmp_path), ann_file='lvis.json')
    loader = dict(train_dataloader=dict(dataset=dataset))
    check_layout(Config(dict(loader, default_scope='mmdet')))
    dataset['type'] = 'CocoDataset'
    with pytest.raises(ValueError, match='Only in the file: bolt\n'):
        check_layout(Config(dict(loader, default_scope='mmdet')))


def test_missing_maps(mine):
    cfg = config_on(mine, SHAPES_SEG)
    folder = mine / 'masks/train'
    for number in range(1, 7):
        (folder / f'{number:06d}.png').unlink()
    with pytest.raises(FileNotFoundError) as error:
        check_layout(cfg)
    message = str(error.value)
    assert message.startswith('6 of the 8 maps that BaseSegDataset needs are missing')
    assert f'Expected in {folder}: 000001.png, 000002.png, ' in message
    assert '000005.png and 1 more.' in message
    assert "img_suffix='.jpg'" in message

    # What the data set would not read need not be there.
    cfg.train_dataloader.dataset.indices = 1
    check_layout(cfg)
    (mine / 'list.txt').write_text('000000\n000007\n')
    cfg.train_dataloader.dataset.update(indices=None, ann_file='list.txt')
    check_layout(cfg)
    (mine / 'list.txt').write_text('000000\n000002\nnothing\n')
    with pytest.raises(FileNotFoundError, match='1 of the 3 images') as error:
        check_layout(cfg)
    assert f'Expected in {mine / "train"}: nothing.jpg.' in str(error.value)


def test_suffixes_of_images_and_maps(mine):
    for split in ('train', 'val'):
        for path in (mine / split).iterdir():
            path.rename(path.with_suffix('.jpeg'))
        for path in (mine / 'masks' / split).iterdir():
            path.rename(path.with_name(path.stem + '_map.png'))
    cfg = config_on(mine, SHAPES_SEG)
    with pytest.raises(ValueError, match=r"no image in .*train that ends in '\.jpg'"):
        check_layout(cfg)
    for dataset in labelled_datasets(cfg):
        dataset.img_suffix = '.jpeg'
    with pytest.raises(FileNotFoundError, match='8 of the 8 maps'):
        check_layout(cfg)
    for dataset in labelled_datasets(cfg):
        dataset.seg_map_suffix = '_map.png'
    check_layout(cfg)
