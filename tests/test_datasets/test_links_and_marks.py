"""What upstream's readers of labelled data would not get through is said before."""

import codecs

import pytest
from drawn_images import save_images
from mmengine.config import Config

from mmpospretrain.datasets.labelled import check_layout, labelled_datasets

SHAPES_SEG = 'configs/transfer/segmentation/upernet_vit-tiny-p16_photoshapes.py'
SHAPES_CLS = 'configs/transfer/classification/vit-tiny-p16_photoshapes.py'


def loader_of(scope, **dataset):
    return Config(dict(train_dataloader=dict(dataset=dataset), default_scope=scope))


@pytest.mark.parametrize(
    ('link', 'target'), [('cat/up', '..'), ('dog/itself', '.'), ('eel', '../train')]
)
@pytest.mark.parametrize('kind', ['CustomDataset', 'ImageNet'])
def test_class_folders_with_a_circle(tmp_path, kind, link, target):
    for name in ('cat', 'dog'):
        save_images(tmp_path / 'train' / name, 1)
    classes = dict(classes=('cat', 'dog'))
    where = dict(
        type=kind, data_root=str(tmp_path), data_prefix='train', metainfo=classes
    )
    check_layout(loader_of('mmpretrain', **where))
    (tmp_path / 'train' / link).symlink_to(target)
    with pytest.raises(ValueError, match=f'{link}.* leads back .* remove the link'):
        check_layout(loader_of('mmpretrain', **where))


def test_images_of_a_segmentation_with_a_circle(mine):
    cfg = Config.fromfile(SHAPES_SEG)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].dataset.data_root = str(mine)
    (mine / 'elsewhere').symlink_to('.')  # where nobody looks
    check_layout(cfg)
    (mine / 'masks/train/again').symlink_to('..')
    with pytest.raises(ValueError, match='masks/train/again/train leads back'):
        check_layout(cfg)


@pytest.mark.parametrize(
    ('mark', 'encoding'),
    [
        (codecs.BOM_UTF8, 'utf-8'),
        (codecs.BOM_UTF16_LE, 'utf-16-le'),
        (codecs.BOM_UTF16_BE, 'utf-16-be'),
    ],
)
def test_lists_with_a_mark(mine, mark, encoding):
    cfg = Config.fromfile(SHAPES_CLS)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].dataset.data_root = str(mine)
    path = mine / 'labels/train.txt'
    text = path.read_text()
    check_layout(cfg)
    path.write_bytes(mark + text.encode(encoding))
    with pytest.raises(ValueError, match=r'train\.txt begins with a byte-order mark'):
        check_layout(cfg)


@pytest.mark.parametrize('name', ['labels/train.txt', 'labels/train.lst'])
@pytest.mark.parametrize(
    ('line', 'shown'),
    [
        (b'caf\xe9.jpg 1', r'caf\\xe9\.jpg 1'),
        (b'\xc4pfel.jpg 0', r'\\xc4pfel\.jpg 0'),
        (b'\x93a\x94.jpg 2', r'\\x93a\\x94\.jpg 2'),
    ],
)
def test_lists_that_are_not_utf8(mine, name, line, shown):
    cfg = Config.fromfile(SHAPES_CLS)
    path = mine / name
    path.write_bytes((mine / 'labels/train.txt').read_bytes() + line)
    number = len(path.read_bytes().splitlines())
    for dataset in labelled_datasets(cfg):
        dataset.update(data_root=str(mine), ann_file=name)
    with pytest.raises(ValueError, match=rf'line {number} of .*{name} .*: {shown}\.'):
        check_layout(cfg)
