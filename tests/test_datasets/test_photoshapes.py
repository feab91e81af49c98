import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmpospretrain.datasets import ImageFolder, photoshapes, scenes
from mmpospretrain.datasets.photoshapes import generate

ROOT = Path(__file__).parents[2]
ARGUMENTS = {'images': 24, 'val_images': 10, 'size': 48, 'seed': 3}


@pytest.fixture(scope='module')
def shapes_dir(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'shapes'
    generate(out, **ARGUMENTS, workers=1, quiet=True)
    return out


def read_files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def test_same_arguments_give_the_same_bytes_with_any_number_of_workers(
    shapes_dir, tmp_path
):
    generate(tmp_path / 'again', **ARGUMENTS, workers=3, quiet=True)
    files = read_files(shapes_dir)
    assert len(files) == 2 * (24 + 10) + 2 + 4 + 1
    assert read_files(tmp_path / 'again') == files


def test_a_larger_set_begins_with_the_smaller_one(shapes_dir, tmp_path):
    generate(tmp_path / 'more', **{**ARGUMENTS, 'images': 30}, quiet=True)
    more = read_files(tmp_path / 'more')
    images = {k: v for k, v in read_files(shapes_dir).items() if 'json' not in k}
    del images['labels/train.txt'], images['labels/count_train.txt']
    assert images.items() <= more.items()


def test_seed_split_and_index_each_change_the_layout():
    def layout(split='train', index=0, seed=0):
        return scenes.draw_scene(split, index, size=32, seed=seed).instances.tobytes()

    assert layout() == layout()
    drawn = {layout(), layout('val'), layout(index=1), layout(seed=1)}
    assert len(drawn) == 4


@pytest.mark.parametrize('split', ['train', 'val'])
def test_annotations_agree_with_the_label_maps(shapes_dir, split):
    coco = COCO(shapes_dir / 'annotations' / f'instances_{split}.json')
    labels = (shapes_dir / 'labels' / f'{split}.txt').read_text().splitlines()
    assert len(labels) == len(coco.imgs)
    assert min(coco.anns) == 1
    for image, line in zip(coco.dataset['images'], labels, strict=True):
        name = image['file_name']
        label_map = np.asarray(
            Image.open(shapes_dir / 'masks' / split / name.replace('.jpg', '.png'))
        )
        with Image.open(shapes_dir / split / name) as picture:
            assert picture.size == label_map.shape == (48, 48)
            assert picture.mode == 'RGB'
        annotations = coco.imgToAnns[image['id']]
        assert 1 <= len(annotations) <= 3
        rebuilt = np.zeros((48, 48), int)
        areas = {}
        for annotation in annotations:
            mask = coco.annToMask(annotation)
            assert not rebuilt[mask == 1].any()  # what is visible never overlaps
            rebuilt += mask * annotation['category_id']
            pixels = [(x, y) for y in range(48) for x in range(48) if mask[y, x]]
            assert annotation['area'] == len(pixels)
            left, top = (min(p[axis] for p in pixels) for axis in (0, 1))
            right, bottom = (max(p[axis] for p in pixels) + 1 for axis in (0, 1))
            assert annotation['bbox'] == [left, top, right - left, bottom - top]
            areas[annotation['area']] = annotation['category_id'] - 1
        np.testing.assert_array_equal(rebuilt, label_map)
        assert line == f'{split}/{name} {areas[max(areas)]}'


def test_manifest_counts_what_is_there(shapes_dir):
    manifest = json.loads((shapes_dir / 'photoshapes.json').read_text())
    assert manifest['arguments'] == ARGUMENTS
    for split in ('train', 'val'):
        coco = COCO(shapes_dir / 'annotations' / f'instances_{split}.json')
        counts = manifest['counts'][split]
        assert counts.pop('images') == len(coco.imgs)
        assert counts == {
            category['name']: len(coco.getAnnIds(catIds=[category['id']]))
            for category in coco.dataset['categories']
        }


def test_splits_share_no_photograph(shapes_dir):
    used = {}
    for split in ('train', 'val'):
        coco = COCO(shapes_dir / 'annotations' / f'instances_{split}.json')
        used[split] = {n for i in coco.dataset['images'] for n in i['photographs']}
        for image in coco.dataset['images']:
            names = image['photographs']
            assert len(set(names)) == len(names)  # all of an image differ
            assert len(names) == 1 + len(coco.imgToAnns[image['id']])
    assert used['train'] == set(scenes.PHOTOGRAPHS['train'])  # all of them occur
    assert used['val'] == set(scenes.PHOTOGRAPHS['val'])
    assert not used['train'] & used['val']


def test_no_validation_photograph_shows_the_scene_of_a_training_photograph():
    def thumbnail(name):
        grey = scenes._load_photograph(name).convert('L').resize((24, 24))
        pixels = np.asarray(grey, float).ravel()
        return (pixels - pixels.mean()) / np.linalg.norm(pixels - pixels.mean())

    # The two views of the motorcycle show what the threshold has to catch.
    stereo = thumbnail('motorcycle_left.png') @ thumbnail('motorcycle_right.png')
    assert stereo > 0.8
    for train in scenes.PHOTOGRAPHS['train']:
        for val in scenes.PHOTOGRAPHS['val']:
            assert abs(thumbnail(train) @ thumbnail(val)) < 0.8, (train, val)


@pytest.mark.parametrize(('split', 'own', 'other'), [('train', 0, 2), ('val', 2, 0)])
def test_pixels_come_from_the_photographs_of_the_split(monkeypatch, split, own, other):
    """Training photographs are red here, validation ones blue, and stay apart."""

    def coloured(name):
        channel = 0 if name in scenes.PHOTOGRAPHS['train'] else 2
        pixels = np.zeros((128, 128, 3), np.uint8)
        noise = np.random.default_rng(0).integers(128, 256, (128, 128))
        pixels[..., channel] = noise
        return Image.fromarray(pixels)

    monkeypatch.setattr(scenes, '_load_photograph', coloured)
    for index in range(8):
        image = scenes.draw_scene(split, index, size=32, seed=0).image
        pixels = np.asarray(image, int)
        assert (pixels[..., own] > pixels[..., other]).all()


def test_class_is_not_tied_to_the_photograph(monkeypatch):
    monkeypatch.setattr(scenes, '_draw_crop', lambda *_: Image.new('RGB', (32, 32)))
    pairs = set()
    for index in range(150):
        scene = scenes.draw_scene('val', index, size=32, seed=0)
        pairs.update(zip(scene.classes, scene.photographs[1:], strict=True))
    assert len(pairs) == 4 * len(scenes.PHOTOGRAPHS['val'])


def test_masks_lie_where_the_silhouettes_are(monkeypatch):
    """White silhouettes on a black background: the mask is what is light."""
    for index in range(10):
        tones = iter([0, 255, 255, 255])
        monkeypatch.setattr(
            scenes,
            '_draw_crop',
            lambda *_, tones=tones: Image.new('RGB', (64, 64), (next(tones),) * 3),
        )
        monkeypatch.setattr(scenes, 'MIN_CONTRAST', -1)
        scene = scenes.draw_scene('train', index, size=64, seed=0)
        tone = np.asarray(scene.image.convert('L'))
        assert scene.instances[tone > 230].all()
        assert not scene.instances[tone < 100].any()
        assert ((tone > 0) & (tone < 255)).mean() < 0.1  # outlines only
        assert set(np.unique(scene.instances)) == set(range(len(scene.classes) + 1))


@pytest.mark.parametrize(
    ('shape', 'area'),
    [
        ('circle', math.pi),
        ('square', 2),
        ('triangle', 3 * math.sqrt(3) / 4),
        ('star', 10 * 0.45 * math.sin(math.pi / 5) / 2),
    ],
)
def test_silhouettes_have_the_area_of_their_shape(monkeypatch, shape, area):
    monkeypatch.setattr(scenes, 'RADIUS', (0.3, 0.3))
    monkeypatch.setattr(scenes, 'CENTRE', (0.5, 0.5))
    rng = np.random.default_rng(0)
    coverage = np.asarray(scenes._draw_silhouette(rng, shape, 112), float) / 255
    assert coverage.sum() == pytest.approx(area * (0.3 * 112) ** 2, rel=0.03)


def test_no_silhouette_is_mostly_covered():
    rng = np.random.default_rng(0)
    for _ in range(50):
        coverage, instances = scenes._draw_layout(rng, [0, 1, 3], 48)
        for k, silhouette in enumerate(coverage, start=1):
            whole = (np.asarray(silhouette) >= 128).sum()
            assert (instances == k).sum() >= whole / 2


@pytest.mark.parametrize('split', ['train', 'val'])
def test_counts_agree_with_the_annotations(shapes_dir, split):
    coco = COCO(shapes_dir / 'annotations' / f'instances_{split}.json')
    lines = (shapes_dir / f'labels/count_{split}.txt').read_text().splitlines()
    expected = [
        f'{split}/{image["file_name"]} {len(coco.getAnnIds(image["id"])) - 1}'
        for image in coco.dataset['images']
    ]
    assert lines == expected
    assert {line[-1] for line in lines} == {'0', '1', '2'}


def test_labels_serve_mmpretrain(shapes_dir):
    dataset = ImageFolder(
        data_root=str(shapes_dir), ann_file='labels/train.txt', with_label=True
    )
    assert len(dataset) == 24
    assert set(dataset.get_gt_labels()) <= {0, 1, 2, 3}
    assert dataset[5]['img'].shape == (48, 48, 3)


@pytest.mark.parametrize(
    ('name', 'value'), [('images', 0), ('val_images', 0), ('size', 31), ('seed', -1)]
)
def test_numbers_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf'{name} must be >= \d+, got {value}'):
        generate(tmp_path / 'new', **{**ARGUMENTS, name: value})
    assert not (tmp_path / 'new').exists()


def test_a_complete_set_is_left_alone(shapes_dir, capsys):
    before = {p: p.stat().st_mtime_ns for p in shapes_dir.rglob('*')}
    manifest = generate(shapes_dir, **ARGUMENTS)
    assert 'already there' in capsys.readouterr().out
    assert manifest == json.loads((shapes_dir / 'photoshapes.json').read_text())
    assert {p: p.stat().st_mtime_ns for p in shapes_dir.rglob('*')} == before


@pytest.mark.parametrize('name', ['images', 'val_images', 'size', 'seed'])
def test_another_set_is_not_overwritten(shapes_dir, name):
    before = read_files(shapes_dir)
    message = f'{name} {ARGUMENTS[name]} (asked for: {ARGUMENTS[name] + 1})'
    with pytest.raises(FileExistsError, match=re.escape(message)):
        generate(shapes_dir, **{**ARGUMENTS, name: ARGUMENTS[name] + 1}, quiet=True)
    assert read_files(shapes_dir) == before


def test_another_drawing_is_not_mixed_in(shapes_dir, monkeypatch):
    monkeypatch.setattr(photoshapes, 'VERSION', 99)
    with pytest.raises(FileExistsError, match=r'version 2 \(asked for: 99\)'):
        generate(shapes_dir, **ARGUMENTS, quiet=True)


def test_other_folders_and_files_are_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='no PhotoShapes set: choose another'):
        generate(tmp_path, **ARGUMENTS)
    with pytest.raises(FileExistsError, match='is a file'):
        generate(tmp_path / 'thesis.txt', **ARGUMENTS)
    assert read_files(tmp_path) == {'thesis.txt': b'mine'}


def test_an_interrupted_set_is_drawn_anew(shapes_dir, tmp_path, monkeypatch):
    def interrupt(out, split, records):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(photoshapes, '_write_annotations', interrupt)
        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path, **ARGUMENTS, quiet=True)
    assert len(list((tmp_path / 'train').iterdir())) > 0
    assert not (tmp_path / 'photoshapes.json').exists()
    with pytest.raises(FileExistsError, match='size 48'):
        generate(tmp_path, **{**ARGUMENTS, 'size': 64}, quiet=True)
    (tmp_path / 'train' / '000000.jpg').write_bytes(b'half a fi')
    generate(tmp_path, **ARGUMENTS, quiet=True)
    assert read_files(tmp_path) == read_files(shapes_dir)


def test_a_lost_image_is_drawn_again(tmp_path):
    arguments = {**ARGUMENTS, 'images': 3, 'val_images': 2}
    generate(tmp_path, **arguments, quiet=True)
    before = read_files(tmp_path)
    (tmp_path / 'masks' / 'val' / '000001.png').unlink()
    generate(tmp_path, **arguments, quiet=True)
    assert read_files(tmp_path) == before


def test_a_damaged_manifest_is_named(tmp_path):
    (tmp_path / 'photoshapes.json').write_text('{"name":')
    with pytest.raises(FileExistsError, match=r'photoshapes\.json is damaged'):
        generate(tmp_path, **ARGUMENTS, quiet=True)


def test_missing_photograph_is_named():
    with pytest.raises(FileNotFoundError, match=r"no photograph 'eagle\.png'"):
        scenes._load_photograph('eagle.png')


def test_command_line(tmp_path):
    command = [sys.executable, '-m', 'mmpospretrain.datasets.photoshapes']
    command += [str(tmp_path / 'set'), '--images=3', '--val-images=2', '--size=32']
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert 'found in sys.modules' not in run.stderr  # runpy, on a double import
    assert len(list((tmp_path / 'set' / 'train').glob('*.jpg'))) == 3
    assert len(list((tmp_path / 'set' / 'val').glob('*.jpg'))) == 2


def test_command_line_tells_what_differs(shapes_dir, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['photoshapes', str(shapes_dir), '--size=64'])
    with pytest.raises(SystemExit) as exit_info:
        photoshapes.main()
    assert exit_info.value.code == 2
    assert 'error: ' in (message := capsys.readouterr().err)
    assert 'size 48 (asked for: 64)' in message
