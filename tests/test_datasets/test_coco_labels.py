"""Annotations in COCO's format are looked at, and completed, before the start."""

import codecs
import json
import os
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, init_default_scope
from PIL import Image

from mmpospretrain.datasets import coco_labels
from mmpospretrain.datasets.labelled import check_layout, labelled_datasets

CLASSES = ('bolt', 'nut')
LOAD = dict(type='LoadImageFromFile')
BOXES = dict(type='LoadAnnotations', with_bbox=True)
MASKS = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What the check logs."""
    lines = []
    monkeypatch.setattr(
        coco_labels, 'print_log', lambda note, logger, level: lines.append(note)
    )
    return lines


@pytest.fixture
def coco(tmp_path):
    """Write four images of 40 × 30 with two objects each; returns a config."""
    (tmp_path / 'images').mkdir()

    def build(change=None, pipeline=(LOAD, BOXES), write=None, **options) -> Config:
        content = dict(images=[], annotations=[], categories=[])
        for k in range(4):
            name = f'{k}.jpg'
            Image.new('RGB', (40, 30)).save(tmp_path / 'images' / name)
            content['images'].append(dict(id=k, file_name=name, width=40, height=30))
            for category in (1, 2):
                content['annotations'].append(
                    dict(
                        id=len(content['annotations']) + 1,
                        image_id=k,
                        category_id=category,
                        bbox=[10 * category, 5, 8, 10],
                        area=80,
                        iscrowd=0,
                        segmentation=[[10, 5, 18, 5, 18, 15, 10, 15]],
                    )
                )
        content['categories'] = [dict(id=i + 1, name=n) for i, n in enumerate(CLASSES)]
        if change:
            change(content)
        path = tmp_path / 'coco.json'
        path.write_bytes((write or str.encode)(json.dumps(content)))
        dataset = dict(
            type='CocoDataset',
            data_root=str(tmp_path),
            ann_file='coco.json',
            data_prefix=dict(img='images/'),
            metainfo=dict(classes=CLASSES),
            pipeline=[*pipeline],
            **options,
        )
        metric = dict(type='CocoMetric', ann_file=str(path), metric=['bbox'])
        return Config(
            dict(
                default_scope='mmdet',
                train_dataloader=dict(dataset=dataset),
                val_dataloader=dict(dataset=dict(dataset, test_mode=True)),
                val_evaluator=metric,
            )
        )

    return build


def of_all(**values):
    """A change of all annotations; None takes a key away."""

    def change(content):
        for annotation in content['annotations']:
            annotation.update(values)
            for key in [key for key, value in values.items() if value is None]:
                del annotation[key]

    return change


def of_first(part='annotations', **values):
    def change(content):
        content[part][0].update(values)

    return change


def without(part, *keys):
    def change(content):
        for item in content[part]:
            for key in keys:
                del item[key]

    return change


def test_a_good_file_needs_no_word(coco, said):
    cfg = coco()
    before = cfg.pretty_text
    check_layout(cfg)
    assert not said
    assert cfg.pretty_text == before


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (of_all(bbox=[0.1, 0.2, 0.3, 0.4]), '8 less than a pixel .* look normalised'),
        (of_all(bbox=[50, 5, 8, 10]), '8 outside of their image'),
        (of_all(bbox=[-9, 5, 8, 10]), '8 outside of their image'),
        (of_all(bbox=[10, 5, -8, 10]), '8 with a negative width'),
        (of_all(bbox=[10, 5, 0, 10]), '8 less than a pixel'),
        (of_all(bbox=[10, 5, float('nan'), 10]), '8 without a box'),
        (of_all(bbox=['10', '5', '8', '10']), '8 without a box'),
        (of_all(bbox=None), '8 without a box'),
        (of_all(category_id=7), '8 of categories that are not in the file'),
        (of_all(category_id='1'), 'category_id is a str, .* `categories` are int'),
        (of_all(image_id='1'), 'image_id is a str, .* `images` are int'),
        (of_all(image_id=99), '8 of images that are not in the file'),
        (of_all(iscrowd=1), '8 marked as crowd'),
        (of_all(ignore=1), '8 marked to be ignored'),
        (lambda content: content.pop('annotations'), '`annotations` is empty'),
    ],
)
def test_nothing_is_left(change, reason, coco):
    with pytest.raises(ValueError, match=f'no object to train on: 0 of .*{reason}'):
        check_layout(coco(change))


def test_boxes_as_corners(coco):
    with pytest.raises(ValueError, match=r'look like \(left, top, right, bottom\)'):
        check_layout(coco(of_all(bbox=[10, 15, 38, 29])))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (of_first(bbox=[90, 5, 8, 10]), '1 outside of their image (annotation 1)'),
        (of_first(bbox=[10, 5, 8, -1]), '1 with a negative width or height'),
        (of_first(category_id=9), '1 of categories that are not in the file'),
        (of_first(image_id=[3]), '1 of images that are not in the file'),
        (of_first(iscrowd=1), '1 marked as crowd'),
    ],
)
def test_what_remains_is_counted(change, reason, coco, said):
    check_layout(coco(change))
    assert f'coco.json: 7 of 8 objects remain; {reason}' in said[0]


def test_three_examples(coco, said):
    def change(content):
        for annotation in content['annotations'][:5]:
            annotation['bbox'][0] = 400

    check_layout(coco(change))
    text = '3 of 8 objects remain; 5 outside of their image (annotation 1, 2, 3, …)'
    assert said[0].endswith(text)


@pytest.mark.parametrize(
    ('part', 'message'),
    [
        ('images', r'`images` these are not: 1 \(2 times\)'),
        ('annotations', r'`annotations` these are not: 2 \(2 times\)'),
        ('categories', r'`categories` these are not: 2 \(2 times\)'),
    ],
)
def test_one_id_twice(part, message, coco):
    def change(content):
        content[part][0]['id'] = content[part][1]['id']

    with pytest.raises(ValueError, match=message):
        check_layout(coco(change))


BROKEN = (b'', b'no image', b'\xff\xd8\xff\xe0 the beginning of one')


@pytest.mark.parametrize('index', [0, 2, 3])
@pytest.mark.parametrize('content', BROKEN)
def test_broken_images(index, content, coco, tmp_path, said):
    cfg = coco()
    path = tmp_path / f'images/{index}.jpg'
    path.write_bytes(content)
    check_layout(cfg)
    expected = f'1 of the 4 images of {tmp_path}/coco.json cannot be read: {path}.'
    assert any(expected in line and 'will be skipped' in line for line in said)

    for dataset in labelled_datasets(cfg):
        dataset.max_broken_share = 0.0
    with pytest.raises(ValueError, match=r'1 of the 4 .* or raise max_broken_share'):
        check_layout(cfg)
    for dataset in labelled_datasets(cfg):
        dataset.max_broken_share = 0.5
    (tmp_path / 'images/1.jpg').write_bytes(content)
    check_layout(cfg)
    for dataset in labelled_datasets(cfg):
        del dataset.max_broken_share
    with pytest.raises(ValueError, match=r'2 of the 4 .* cannot be read') as error:
        check_layout(cfg)
    assert str(path) in str(error.value)


@pytest.mark.parametrize('index', [0, 2, 3])
def test_a_fifo_is_never_opened(index, coco, tmp_path, said):
    cfg = coco()
    path = tmp_path / f'images/{index}.jpg'
    path.unlink()
    os.mkfifo(path)
    check_layout(cfg)
    assert any(f'cannot be read: {path}. They will be skipped' in line for line in said)


@pytest.mark.parametrize('index', [0, 2, 3])
def test_missing_images(index, coco, tmp_path):
    cfg = coco()
    path = tmp_path / f'images/{index}.jpg'
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r'1 of the 4 images .*') as error:
        check_layout(cfg)
    assert str(path) in str(error.value)
    # What is not read need not be there.
    for dataset in labelled_datasets(cfg):
        dataset.indices = [k for k in range(4) if k != index]
    check_layout(cfg)


def turn(folder: Path, orientation: int, ending: str = 'jpg') -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (40, 30)).save(folder / f'images/1.{ending}', exif=exif)


@pytest.mark.parametrize('orientation', [5, 6, 8])
def test_images_that_exif_turns(orientation, coco, tmp_path):
    cfg = coco()
    turn(tmp_path, orientation)
    said = (
        r"1\.jpg \(40 × 30 in the file, read as 30 × 40\).*'color_ignore_orientation'"
    )
    with pytest.raises(ValueError, match=said):
        check_layout(cfg)
    for dataset in labelled_datasets(cfg):  # as advised
        dataset.pipeline[0].color_type = 'color_ignore_orientation'
    check_layout(cfg)

    # Annotated as they look: right as it was at first.
    cfg = coco(lambda content: content['images'][1].update(width=30, height=40))
    turn(tmp_path, orientation)
    check_layout(cfg)
    for dataset in labelled_datasets(cfg):
        dataset.pipeline[0].imdecode_backend = 'turbojpeg'
    with pytest.raises(ValueError, match="color_type='color'"):
        check_layout(cfg)


def test_orientations_that_keep_the_size(coco, tmp_path):
    cfg = coco()
    for orientation in (1, 2, 3, 4):
        turn(tmp_path, orientation)
        check_layout(cfg)


def test_images_of_another_size(coco, tmp_path, said):
    cfg = coco()
    Image.new('RGB', (41, 30)).save(tmp_path / 'images/2.jpg')
    check_layout(cfg)
    assert said == [
        f'{tmp_path}/coco.json: 1 images are a pixel larger or smaller: 2.jpg '
        '(40 × 30 in the file, read as 41 × 30)'
    ]
    Image.new('RGB', (80, 60)).save(tmp_path / 'images/2.jpg')
    with pytest.raises(ValueError, match=r'than 1 of 4 images have: 2\.jpg'):
        check_layout(cfg)


@pytest.mark.parametrize(
    ('masks', 'words'),
    [
        (None, 'boxes only, .*mask_head=None'),
        ([], 'boxes only'),
        ([[1, 2, 3, 4]], '8 without a valid mask'),
        ([[1, 2, 3, 4, 5]], '8 without a valid mask'),
        (dict(counts=[600, 600], size=[40, 30]), '8 without a valid mask'),
        (dict(counts=[600, 601], size=[30, 40]), '8 without a valid mask'),
    ],
)
def test_no_masks_for_a_mask_head(masks, words, coco):
    check_layout(coco(of_all(segmentation=masks)))  # nobody asks for them
    with pytest.raises(ValueError, match=words):
        check_layout(coco(of_all(segmentation=masks), pipeline=[LOAD, MASKS]))


def test_rle_where_polygons_are_asked_for(coco):
    change = of_all(segmentation=dict(counts=[600, 600], size=[30, 40]))
    check_layout(coco(change, pipeline=[LOAD, MASKS]))
    with pytest.raises(ValueError, match='8 without a valid mask'):
        check_layout(coco(change, pipeline=[LOAD, dict(MASKS, poly2mask=False)]))


def test_masks_of_a_metric(coco):
    cfg = coco(of_all(segmentation=None))
    cfg.val_evaluator.metric = ['bbox', 'segm']
    check_layout(cfg, ['train_dataloader'])
    with pytest.raises(ValueError, match='boxes only'):
        check_layout(cfg, ['val_dataloader'])


GAPS = {
    'area': (without('annotations', 'area'), {}, None),
    'area of 0': (of_all(area=0), {}, None),
    'iscrowd': (without('annotations', 'iscrowd'), {}, None),
    'ids': (without('annotations', 'id'), {}, None),
    'size': (without('images', 'width', 'height'), {}, None),
    'width': (without('images', 'width'), {}, None),
    'mark': (None, {}, lambda text: codecs.BOM_UTF8 + text.encode()),
    'UTF-16': (None, {}, lambda text: text.encode('utf-16')),
    'no box': (of_first(bbox=None), {}, None),
    'NaN': (of_first(bbox=[float('nan')] * 4), {}, None),
    'no image': (of_first(image_id=None), {}, None),
    'mask': (of_first(segmentation=None), dict(pipeline=[LOAD, MASKS]), None),
    'RLE': (of_first(segmentation=dict(counts=1)), dict(pipeline=[LOAD, MASKS]), None),
}


@pytest.mark.parametrize('gap', GAPS)
def test_gaps_are_completed_for_data_set_and_metric(gap, coco, said, tmp_path):
    change, options, write = GAPS[gap]
    cfg = coco(change, write=write, **options)
    before = (tmp_path / 'coco.json').read_bytes()
    check_layout(cfg)
    assert any('coco.json is completed when it is read: ' in line for line in said)
    init_default_scope('mmdet')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(loader.dataset)
        infos = [dataset.get_data_info(k) for k in range(4)]
        assert {(info['width'], info['height']) for info in infos} == {(40, 30)}
        objects = [o for info in infos for o in info['instances']]
        used = [o for o in objects if not o['ignore_flag']]
        lost = gap in ('no box', 'NaN', 'no image', 'mask', 'RLE')
        assert len(used) == 8 - lost
        assert used[-1]['bbox'] == [20, 5, 28, 15]
        for k in range(4):
            assert len(dataset[k]['gt_bboxes_labels']) >= 1
    api = METRICS.build(cfg.val_evaluator)._coco_api
    for annotation in api.anns.values():
        assert annotation['area'] == 80
        assert annotation['iscrowd'] in (0, 1)
    assert (tmp_path / 'coco.json').read_bytes() == before


def test_the_metric_needs_its_file(coco, tmp_path):
    cfg = coco()
    cfg.val_evaluator.ann_file = str(tmp_path / 'others.json')
    with pytest.raises(FileNotFoundError, match=r'others\.json, which CocoMetric'):
        check_layout(cfg)
    check_layout(cfg, ['train_dataloader'])


@pytest.mark.parametrize(
    ('filter_cfg', 'change', 'words'),
    [
        (dict(filter_empty_gt=True), of_all(image_id=77), '4 have no object of the cl'),
        (dict(min_size=32), None, '4 have a side under 32 pixels'),
        (
            dict(filter_empty_gt=True, min_size=32),
            lambda content: content.update(annotations=[]),
            'Of 4 images 4 have no object .* and 4 have a side under 32',
        ),
    ],
)
def test_all_images_filtered_out(filter_cfg, change, words, coco):
    cfg = coco(change, filter_cfg=filter_cfg)
    with pytest.raises(ValueError, match=f'every image is filtered out.*{words}'):
        check_layout(cfg, ['train_dataloader'])


@pytest.mark.parametrize('kind', ['RepeatDataset', 'ConcatDataset', 'both'])
def test_data_sets_in_wrappers(kind, coco):
    cfg = coco(of_all(iscrowd=1))
    inner = cfg.train_dataloader.dataset
    if kind != 'RepeatDataset':
        inner = dict(type='ConcatDataset', datasets=[inner, inner])
    if kind != 'ConcatDataset':
        inner = dict(type='RepeatDataset', times=2, dataset=inner)
    cfg.train_dataloader.dataset = inner
    with pytest.raises(ValueError, match='8 marked as crowd'):
        check_layout(cfg)


def test_a_test_that_only_writes_predictions_needs_no_objects(coco):
    cfg = coco(lambda content: content.pop('annotations'))
    with pytest.raises(ValueError, match='no object to evaluate by'):
        check_layout(cfg, ['val_dataloader'])
    cfg.val_evaluator.update(format_only=True, outfile_prefix='results')
    check_layout(cfg, ['val_dataloader'])


def test_what_was_found_is_kept_until_files_change(coco, monkeypatch, tmp_path, cache):
    cfg = coco()
    read = coco_labels.read_coco
    calls = []
    monkeypatch.setattr(
        coco_labels, 'read_coco', lambda path: calls.append(path) or read(path)
    )

    def reads() -> int:
        calls.clear()
        check_layout(cfg, ['train_dataloader'])
        return len(calls)

    assert [reads(), reads()] == [1, 0]
    os.utime(tmp_path / 'images/3.jpg', (1, 1))
    assert [reads(), reads()] == [1, 0]
    os.utime(tmp_path / 'coco.json', (1, 1))
    assert [reads(), reads()] == [1, 0]
    cfg.train_dataloader.dataset.pipeline.append(MASKS)
    assert [reads(), reads()] == [1, 0]
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', '/dev/null/nowhere')
    assert [reads(), reads()] == [1, 1]
