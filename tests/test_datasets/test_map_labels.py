"""Maps that do not fit are named, with their values, before anything is trained."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmpospretrain.datasets import map_values
from mmpospretrain.datasets.labelled import (
    check_layout,
    labelled_datasets,
    set_data_root,
)
from mmpospretrain.datasets.map_values import LabelMap, Numbers, judge_maps

TRANSFER = Path(__file__).parents[2] / 'configs/transfer'
# Classes in each quarter of a map.
QUARTERS = np.kron([[0, 1], [2, 3]], np.ones((4, 6), int)).astype(np.uint8)


@pytest.fixture
def maps(tmp_path) -> Path:
    """Three images a split, 12 x 8, and their maps of classes 0 to 3."""
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        (tmp_path / 'masks' / split).mkdir(parents=True)
        for name in 'abc':
            Image.new('RGB', (12, 8)).save(tmp_path / split / f'{name}.jpg')
            write(tmp_path, f'{split}/{name}.png', QUARTERS)
    return tmp_path


def write(root: Path, name: str, pixels: np.ndarray, mode: str | None = None) -> None:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(root / 'masks' / name)


def config(root: Path, **options) -> Config:
    cfg = Config.fromfile(TRANSFER / 'segmentation/upernet_vit-tiny-p16_photoshapes.py')
    set_data_root(cfg, str(root))
    for dataset in labelled_datasets(cfg):
        dataset.metainfo = dict(classes=('a', 'b', 'c', 'd'))
        dataset.indices = None
        dataset.update(options)
    if dataset.metainfo:
        for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
            head.num_classes = len(dataset.metainfo['classes'])
    return cfg


def refused(root: Path, **options) -> str:
    with pytest.raises(ValueError) as error:
        check_layout(config(root, **options))
    assert str(error.value).endswith(
        'See "Your classes" in configs/transfer/README.md.'
    )
    return str(error.value)


@pytest.mark.parametrize(
    ('mode', 'what'),
    [
        ('RGB', 'colours of shape (8, 12, 3)'),
        ('RGBA', 'colours with transparency of shape (8, 12, 4)'),
        ('LA', 'grey with transparency of shape (8, 12, 2)'),
    ],
)
def test_channels(mode, what, maps):
    write(maps, 'train/b.png', QUARTERS, mode)
    message = refused(maps)
    folder = maps / 'masks/train'
    assert message.startswith(f'1 of the 3 maps in {folder} are no maps of numbers')
    assert f': b.png has {what}. ' in message


@pytest.mark.parametrize(
    ('pixels', 'mode'),
    [
        (QUARTERS, 'I;16'),
        (QUARTERS.astype(np.int32), None),
        (QUARTERS.astype(np.float32), None),  # numbers all the same
        (QUARTERS > 0, None),  # one bit
        (np.where(QUARTERS > 2, 255, QUARTERS).astype(np.uint8), None),
    ],
    ids=['16 bit', '32 bit', 'float', '1 bit', 'ignored'],
)
def test_what_mmsegmentation_reads_is_fine(pixels, mode, maps):
    for split in ('train', 'val'):
        name = f'{split}/a.png'
        if pixels.dtype in (np.float32, np.int32):
            Image.fromarray(pixels).save(maps / 'masks' / name, format='TIFF')
        else:
            write(maps, name, pixels, mode)
    check_layout(config(maps))


def test_a_palette_colours_numbers(maps):
    image = Image.fromarray(QUARTERS)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(maps / 'masks/train/a.png', transparency=0)
    check_layout(config(maps))
    cfg = config(maps)
    cfg.train_dataloader.dataset.pipeline[1].imdecode_backend = 'cv2'
    with pytest.raises(ValueError, match=r'a\.png has colours'):  # as OpenCV reads it
        check_layout(cfg)


@pytest.mark.parametrize(
    ('pixels', 'what'),
    [
        (QUARTERS * 85, 'b.png has 85, 170'),  # spread over all greys
        (QUARTERS + 7, 'b.png has 7, 8, 9, 10. '),
        (QUARTERS.astype(np.uint16) + 1000, 'b.png has 1000, 1001, 1002, 1003. '),
        (QUARTERS.astype(np.int32) * -1, 'b.png has -3, -2, -1. '),
        (QUARTERS / np.float32(2), 'b.png has 0.5, 1.5. '),
    ],
    ids=['spread', 'beyond', '16 bit', 'negative', 'halves'],
)
def test_values(pixels, what, maps):
    ending = 'tif' if pixels.dtype in (np.float32, np.int32) else 'png'
    path = maps / 'masks/val/b.png'
    path.unlink()
    Image.fromarray(pixels).save(path.with_suffix(f'.{ending}'))
    path.with_suffix(f'.{ending}').rename(path)
    message = refused(maps)
    assert message.startswith(f'1 of the 3 maps in {path.parent} have pixels that are')
    assert what in message
    assert 'Needed: 0 to 3 for 4 classes; ignored: 255.' in message


@pytest.mark.parametrize(
    ('change', 'hint'),
    [
        (lambda m: m + 1, 'reduce_zero_label=True in all data sets counts from 1'),
        (lambda m: np.where(m == 1, 4, m), 'Is 0 the background?'),
        (lambda m: np.where(m > 0, 128, 0), 'Two classes need 0 and 1, not 0 and 128'),
        (lambda m: np.where(m > 0, 255, 0), 'Two classes need 0 and 1'),
    ],
    ids=['from 1', 'background', '0 and 128', '0 and 255'],
)
def test_hints(change, hint, maps):
    for path in (maps / 'masks').rglob('*.png'):
        write(maps, path.relative_to(maps / 'masks'), change(QUARTERS).astype(np.uint8))
    assert hint in refused(maps)
    if hint.startswith('reduce'):  # and it is true
        check_layout(config(maps, reduce_zero_label=True))


def test_jpeg_changes_values(maps):
    noise = np.random.default_rng(0).integers(0, 4, (8, 12)).astype(np.uint8) * 60
    Image.fromarray(noise).save(maps / 'masks/train/a.jpg')
    for path in (maps / 'masks').rglob('*.png'):
        Image.fromarray(noise).save(path.with_suffix('.jpg'))
    assert 'JPEG changes values' in refused(maps, seg_map_suffix='.jpg')


@pytest.mark.parametrize(
    ('content', 'reason'),
    [(b'', 'the file is empty'), (b'text', 'UnidentifiedImageError')],
)
def test_unreadable(content, reason, maps, told):
    """The rule of broken images: one alone is skipped, unless no share is allowed."""
    (maps / 'masks/val/c.png').write_bytes(content)
    check_layout(config(maps))
    assert 'masks/val cannot be read: c.png (' in told[0]
    assert reason in told[0]
    assert told[0].endswith('They will be skipped.')
    message = refused(maps, max_broken_share=0.0)
    assert 'masks/val cannot be read: c.png (' in message
    assert reason in message
    assert 'raise max_broken_share' in message
    (maps / 'masks/val/a.png').write_bytes(content)
    assert '2 of the 3 maps' in refused(maps)
    check_layout(config(maps, max_broken_share=0.7))
    (maps / 'masks/val/b.png').write_bytes(content)
    assert '3 of the 3 maps' in refused(maps, max_broken_share=1.0)


def test_truncated(maps):
    path = maps / 'masks/train/a.png'
    path.write_bytes(path.read_bytes()[:-30])
    assert 'cannot be read: a.png (' in refused(maps, max_broken_share=0.0)


@pytest.mark.parametrize('name', ['masks/train/a.png', 'train/a.jpg'])
def test_a_fifo_is_never_opened(name, maps):
    (maps / name).unlink()
    os.mkfifo(maps / name)
    (maps / 'list.txt').write_text('a\nb\nc\n')
    check_layout(config(maps, ann_file='list.txt'), ['train_dataloader'])


@pytest.mark.parametrize('word', ['abcd', 'road', 'sky'])
def test_a_word_is_no_list_of_classes(word, maps):
    cfg = config(maps)
    for dataset in labelled_datasets(cfg):
        dataset.metainfo = dict(classes=word)
    with pytest.raises(ValueError, match=f"metainfo.classes='{word}' is neither a"):
        check_layout(cfg)


@pytest.mark.parametrize('orientation', [5, 6, 8])
def test_size_of_a_turned_image(orientation, maps):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (12, 8)).save(maps / 'train/a.jpg', exif=exif)
    assert 'a.png is 12 x 8, its image 8 x 12. Images are turned' in refused(maps)
    cfg = config(maps)
    cfg.train_dataloader.dataset.pipeline[0].color_type = 'color_ignore_orientation'
    check_layout(cfg)
    write(maps, 'train/a.png', QUARTERS.T)
    check_layout(config(maps))


def test_size(maps):
    write(maps, 'val/a.png', QUARTERS[::2, ::2])
    message = refused(maps)
    assert 'have another size than their images: a.png is 6 x 4, its image 12 x 8' in (
        message
    )


def test_tests_look_at_their_own(maps):
    write(maps, 'train/a.png', QUARTERS + 9)
    check_layout(config(maps), ['test_dataloader'])
    write(maps, 'val/a.png', QUARTERS + 9)
    with pytest.raises(ValueError, match=r'1 of the 3 maps in .*val have pixels'):
        check_layout(config(maps), ['test_dataloader'])


@pytest.mark.parametrize('value', [255, 0])
def test_all_ignored(value, maps):
    for path in (maps / 'masks').rglob('*.png'):
        write(maps, path.relative_to(maps / 'masks'), np.full_like(QUARTERS, value))
    message = refused(maps, reduce_zero_label=True)
    assert f'are ignored: a.png has {value}. Needed: 1 to 4 for 4 classes' in message
    assert 'ignored: 0, 255' in message


@pytest.mark.parametrize(
    ('maps', 'text'),
    [
        ([[0], [0]], 'the 2 maps in d are of one class alone: 0'),
        ([[2], [2], [2, 255]], 'the 3 maps in d are of one class alone: 2'),
        ([[0, 1], [255], [2]], '1 of the 3 maps in d have ignored pixels only: 1.png'),
        ([[0, 1]], '1 of the 3 classes have no pixel in the 1 maps in d: sky'),
        ([[2], [1]], '1 of the 3 classes have no pixel in the 2 maps in d: road'),
        ([[0, 1], [2]], ''),
    ],
)
def test_warnings(maps, text, told):
    found = [LabelMap(f'd/{k}.png', (2, 2), (2, 2), v) for k, v in enumerate(maps)]
    judge_maps(found, Numbers(3), ('road', 'car', 'sky'))
    assert told == [text] * bool(text)


@pytest.mark.parametrize(
    ('numbers', 'fine', 'wrong'),
    [
        (Numbers(150, reduce_zero_label=True), [0, 1, 150, 255], [151, 254]),
        (Numbers(2, ignored=7), [0, 1, 7], [2, 255]),
        (Numbers(2, label_map={0: 255, 1: 0, 2: 1, 3: 255}), [0, 1, 2, 3], [4]),
        (Numbers(1), [0, 1, 255], [2]),  # with a sigmoid
        (Numbers(None), [0, 200, 255], [256, -1, 0.5, float('nan')]),
    ],
)
def test_labels(numbers, fine, wrong):
    assert all(numbers.label(value) is not None for value in fine)
    assert all(numbers.label(value) is None for value in wrong)


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('label_map', [None, {0: 1, 1: 255, 2: 0}])
def test_labels_are_mmsegmentation_s(reduce_zero_label, label_map, tmp_path):
    from mmseg.datasets.transforms import LoadAnnotations

    path = tmp_path / 'map.png'
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    facts = dict(reduce_zero_label=reduce_zero_label, label_map=label_map)
    sample = dict(seg_map_path=str(path), seg_fields=[], **facts)
    loaded = LoadAnnotations()(sample)['gt_seg_map'].flatten().tolist()
    numbers = Numbers(None, **facts)
    assert [numbers.label(value) for value in range(256)] == loaded


@pytest.mark.parametrize(
    ('rename', 'kinds'),
    [
        ({'a.jpg': 'a.JPG'}, '1 × .JPG'),
        ({'a.jpg': 'a.jpeg', 'b.jpg': 'b.jpeg'}, '2 × .jpeg'),
        ({'a.jpg': 'a.gif', 'b.jpg': 'b.png'}, '1 × .gif'),
    ],
)
def test_images_left_out(rename, kinds, maps, told):
    for old, new in rename.items():
        (maps / 'train' / old).rename(maps / 'train' / new)
    check_layout(config(maps))
    out = '\n'.join(told)
    assert kinds in out
    assert f' in {maps / "train"} left out: BaseSegDataset reads images that end' in out
    assert f'{len(rename)} maps in {maps / "masks/train"} have no image: a.png' in out


def test_what_is_no_image_of_the_set_is_not_told(maps, told):
    """Maps beside images, other pictures of the same place, hidden files, lists."""
    for split in ('train', 'val'):
        for path in (maps / split).glob('*.jpg'):
            path.rename(path.with_name(f'{path.stem}_sat.jpg'))
            mask = maps / 'masks' / split / f'{path.stem}.png'
            mask.rename(path.with_name(f'{path.stem}_mask.png'))
        (maps / split / 'a_depth.jpg').touch()
        (maps / split / '.a.JPG').touch()
        (maps / split / 'notes.txt').touch()
    cfg = config(maps, img_suffix='_sat.jpg', seg_map_suffix='_mask.png')
    for dataset in labelled_datasets(cfg):
        dataset.data_prefix.seg_map_path = dataset.data_prefix.img_path
    check_layout(cfg)
    assert not told


def test_a_list_leaves_out_on_purpose(maps, told):
    (maps / 'train/a.jpg').rename(maps / 'train/a.JPG')
    (maps / 'list.txt').write_text('b\nc\n')
    cfg = config(maps)
    cfg.train_dataloader.dataset.ann_file = 'list.txt'
    check_layout(cfg)
    assert not told


def test_a_loader_of_somebody_s_own_may_read_anything(maps):
    write(maps, 'train/a.png', QUARTERS, 'RGB')
    cfg = config(maps)
    cfg.train_dataloader.dataset.pipeline[1] = dict(type='mmdet.LoadAnnotations')
    check_layout(cfg)


def test_a_loader_that_contradicts_its_data_set(maps):
    cfg = config(maps)
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = True
    with pytest.raises(ValueError, match='reduce_zero_label=True, its data set False'):
        check_layout(cfg)


def test_classes_of_the_head_where_the_data_set_names_none(maps):
    write(maps, 'train/a.png', QUARTERS + 1)
    cfg = config(maps, metainfo=None)
    check_layout(cfg)  # five, of PhotoShapes
    cfg.model.decode_head.num_classes = 3
    cfg.model.decode_head = [dict(num_classes=9), cfg.model.decode_head]
    with pytest.raises(ValueError, match='Needed: 0 to 2 for 3 classes'):
        check_layout(cfg)


def test_maps_are_read_once(maps, monkeypatch, tmp_path):
    """And again when one has changed."""
    looked = []
    look = map_values._look
    monkeypatch.setattr(
        map_values,
        '_look',
        lambda *args, **kw: looked.append(args[1]) or look(*args, **kw),
    )
    check_layout(config(maps))
    assert len(looked) == 6
    check_layout(config(maps))
    assert len(looked) == 6
    write(maps, 'train/b.png', np.pad(QUARTERS[1:], ((0, 1), (0, 0))))
    check_layout(config(maps))
    assert len(looked) == 9
    for path in (tmp_path / 'cache/checks').glob('*.json'):
        path.write_text(json.dumps('half')[:3])  # a broken cache is made anew
    check_layout(config(maps))
    assert len(looked) == 15
