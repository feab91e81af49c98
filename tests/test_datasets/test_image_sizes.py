"""Every config takes images of any size; what PhotoShapes gives is as it was."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from mmengine.runner import set_random_seed
from mmpretrain.datasets.transforms import ColorJitter as Upstream
from PIL import Image

from mmpospretrain.datasets import ColorJitter, ImageFolder, ResizeShortEdge
from mmpospretrain.datasets.equal_shapes import check_equal_shapes

ROOT = Path(__file__).parents[2]
BASES = ROOT / 'configs/_base_/datasets'
PRETRAINING = [
    'cifar100_32',
    'imagenet_224',
    'imagenet_224_deit',
    'imagenet_224_ijepa',
    'imagenet_224_multicrop',
    'photoshapes_96',
    'photoshapes_96_ijepa',
    'photoshapes_96_multicrop',
    'tiny-imagenet_64',
]
SIZES = [(1, 1), (2, 2), (1, 9), (9, 1), (2, 2048), (2048, 2), (97, 95), (640, 500)]
FLIP = dict(type='RandomFlip', prob=0.5)
ENLARGING = ('ResizeShortEdge', 'Resize')


def shapes(inputs):
    images = inputs if isinstance(inputs, list) else [inputs]
    return [tuple(image.shape) for image in images]


def draw(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope='module')
def odd(tmp_path_factory) -> Path:
    """Sizes, modes, and each orientation that a camera may note."""
    folder = tmp_path_factory.mktemp('odd')
    for size in SIZES:
        draw(size).save(folder / f'{size[0]}x{size[1]}.png')
    for mode in ('1', 'L', 'LA', 'P', 'RGBA', 'I;16'):
        image = draw((30, 40)).convert('L' if mode == 'I;16' else mode)
        image.convert(mode).save(folder / f'mode {mode.replace(";", "")}.png')
    for orientation in range(1, 9):
        for size in ((30, 40), (1, 9), (9, 1)):
            image = draw(size)
            exif = image.getexif()
            exif[0x112] = orientation
            image.save(folder / f'turned {orientation} {size[0]}.png', exif=exif)
    return folder


@pytest.mark.parametrize('base', PRETRAINING)
def test_pre_training_takes_any_image(base, odd):
    cfg = Config.fromfile(BASES / f'{base}.py')
    init_default_scope('mmpretrain')
    for pipeline in (cfg.train_pipeline, cfg.val_pipeline):
        dataset = ImageFolder(data_root=str(odd), pipeline=pipeline)
        seen = [shapes(sample['inputs']) for sample in dataset]
        assert len(seen) == len(SIZES) + 6 + 24
        assert all(shape == seen[0] for shape in seen)
        assert not dataset.broken.marks.any()


def drawn_so_far() -> tuple:
    """The states of the generators that transforms draw from."""
    numpy = np.random.get_state()  # noqa: NPY002
    return (
        random.getstate(),
        numpy[1].tolist(),
        numpy[2],
        torch.get_rng_state().tolist(),
    )


def without_sizing(pipeline: list) -> list:
    """As it was before images of other sizes were thought of."""
    return [
        step for step in pipeline if step['type'].rpartition('.')[2] not in ENLARGING
    ]


@pytest.mark.parametrize(
    ('base', 'size'),
    [
        ('photoshapes_96', 112),
        ('photoshapes_96_multicrop', 112),
        ('photoshapes_cls', 112),
        ('cifar100_32', 32),
        ('tiny-imagenet_64', 64),
    ],
)
def test_the_data_of_the_config_stays_as_it_was(base, size, tmp_path):
    """The bits of the images, and what is drawn for them."""
    draw((size, size)).save(tmp_path / 'image.png')
    cfg = Config.fromfile(BASES / f'{base}.py')
    init_default_scope('mmpretrain')
    names = {'train_pipeline', 'val_pipeline', 'test_pipeline'} & cfg.keys()
    image = np.array(draw((size, size)))[..., ::-1]
    for name in names:
        results = []
        for pipeline in (cfg[name], without_sizing(cfg[name])):
            steps = [step for step in pipeline if step['type'] != 'LoadImageFromFile']
            assert pipeline is not cfg[name] or len(steps) > 1
            set_random_seed(0)
            run = Compose(steps)
            for _ in range(3):
                sample = run(dict(img=image, img_shape=(size,) * 2, ori_shape=(9, 9)))
            inputs = sample['inputs']
            images = inputs if isinstance(inputs, list) else [inputs]
            results.append((images, drawn_so_far()))
        (new, after), (old, before) = results
        assert all(map(torch.equal, new, old))
        assert after == before


def labelled(cfg: Config, root: Path, loader: str, sizing: bool = True) -> list:
    init_default_scope(cfg.default_scope)
    dataset = cfg[loader].dataset
    dataset.data_root = str(root)
    if not sizing:
        dataset.pipeline = without_sizing(dataset.pipeline)
    dataset = DATASETS.build(dataset)
    set_random_seed(0)
    return [dataset[index] for index in range(len(dataset))]


def same(new, old) -> bool:
    if hasattr(new, 'tensor'):  # boxes
        new, old = new.tensor, old.tensor
    if isinstance(new, torch.Tensor):
        return torch.equal(new, old)
    if hasattr(new, 'to_ndarray'):  # bitmaps or polygons
        return (new.to_ndarray() == old.to_ndarray()).all()
    if hasattr(new, 'keys'):
        return all(
            same(new.get(key), old.get(key)) for key in ({*new.keys(), *old.keys()})
        )
    return new == old


@pytest.mark.parametrize('base', ['photoshapes_coco', 'photoshapes_seg'])
@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_labelled_shapes_stay_and_others_become_a_square(base, loader, tmp_path):
    from mmpospretrain.datasets.photoshapes import generate

    scope = {'photoshapes_coco': 'mmdet', 'photoshapes_seg': 'mmseg'}[base]

    def load(root, **options):
        cfg = Config.fromfile(BASES / f'{base}.py')
        cfg.default_scope = scope
        return labelled(cfg, root, loader, **options)

    generate(tmp_path / 'own', images=4, val_images=4, workers=1, quiet=True)
    new, old = load(tmp_path / 'own'), load(tmp_path / 'own', sizing=False)
    assert len(new) == 4
    for mine, before in zip(new, old, strict=True):
        assert torch.equal(mine['inputs'], before['inputs'])
        assert same(mine['data_samples'], before['data_samples'])
    generate(tmp_path / 'small', images=2, val_images=2, size=80, workers=1, quiet=True)
    for sample in load(tmp_path / 'small'):
        assert sample['inputs'].shape == (3, 112, 112)


def pack(*steps: dict) -> list:
    init_default_scope('mmpretrain')
    return [TRANSFORMS.build(step) for step in (*steps, dict(type='PackInputs'))]


@pytest.mark.parametrize(
    ('steps', 'named'),
    [
        ([dict(type='RandomCrop', crop_size=96), FLIP], 'RandomCrop'),
        ([dict(type='CenterCrop', crop_size=64)], 'CenterCrop'),
        ([dict(type='ResizeEdge', scale=64, edge='short')], 'ResizeEdge'),
        ([dict(type='Pad', size_divisor=32)], 'Pad'),
        ([FLIP], 'the pipeline'),
        (
            [
                dict(type='Resize', scale=32, keep_ratio=True),
                dict(type='RandomCrop', crop_size=32),
            ],
            'Resize',
        ),
        (
            [
                dict(
                    type='MultiView',
                    num_views=2,
                    transforms=[[dict(type='RandomCrop', crop_size=9)]],
                )
            ],
            'MultiView',
        ),
    ],
    ids=str,
)
def test_a_pipeline_of_many_shapes_is_refused(steps, named, tmp_path):
    draw((8, 8)).save(tmp_path / 'image.png')
    ImageFolder(data_root=str(tmp_path), pipeline=[*steps, dict(type='PackInputs')])
    draw((8, 9)).save(tmp_path / 'another.png')
    with pytest.raises(ValueError, match=f'^{named} .*ResizeShortEdge') as error:
        ImageFolder(data_root=str(tmp_path), pipeline=[*steps, dict(type='PackInputs')])
    assert '\n' not in str(error.value)
    start = dict(type='mmpospretrain.ResizeShortEdge', scale=99)
    crop = dict(type='CenterCrop', crop_size=96)
    check_equal_shapes(pack(start, crop, *steps))


def test_looking_draws_nothing_and_hides_no_other_error():
    set_random_seed(0)
    before = drawn_so_far()
    check_equal_shapes(pack(dict(type='RandomResizedCrop', scale=8)))
    assert drawn_so_far() == before
    check_equal_shapes([lambda data: data['no such key'], *pack()])
    check_equal_shapes([lambda data: int(data['img'][0, 0, 0])])
    check_equal_shapes([])


@pytest.mark.parametrize(
    ('size', 'resized'),
    [
        ((1, 30000), (32, 512)),
        ((30000, 1), (512, 32)),
        ((2, 2), (32, 32)),
        ((64, 96), (32, 48)),
        ((96, 64), (48, 32)),
        ((10, 160), (32, 512)),
    ],
)
def test_strips_are_squashed(size, resized):
    image = np.zeros((*size, 3), np.uint8)
    results = ResizeShortEdge(32)(dict(img=image))
    assert results['img'].shape == (*resized, 3)
    assert results['img_shape'] == resized


@pytest.mark.parametrize('option', [dict(scale=0), dict(scale=8, max_ratio=0.5)])
def test_sizes_that_are_none(option):
    with pytest.raises(ValueError, match='must be at least 1'):
        ResizeShortEdge(**option)


def test_shrinking_averages():
    """Stripes of one pixel become grey, where leaving pixels out would keep one."""
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    image = ResizeShortEdge(20)(dict(img=stripes))['img']
    assert abs(image.astype(int) - 127.5).max() < 2


@pytest.mark.parametrize('hue', [-0.5, -0.0907, -0.001, 0.0, 0.09, 0.5])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_hue_turns_both_ways(hue, dtype):
    """By hand: of 256 steps of the circle, `hue * 255`, cut off, around the end."""
    import cv2

    image = np.array(draw((40, 30))).astype(dtype)
    fixed = dict(hue=(hue, hue)) if hue else dict(hue=0.0)
    turned = ColorJitter(**fixed)(dict(img=image))['img']
    hsv = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL).astype(int)
    hsv[..., 0] = (hsv[..., 0] + int(hue * 255)) % 256
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR_FULL)
    assert turned.dtype == dtype
    assert (turned == (expected if hue else image)).all()


def test_colours_are_those_of_upstream():
    """Of this stack, whose hue turns both ways; draws in the same order."""
    options = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    image = np.array(draw((40, 30)))
    results = []
    for transform in (ColorJitter(**options), Upstream(**options, backend='cv2')):
        set_random_seed(3)
        results.append([transform(dict(img=image.copy()))['img'] for _ in range(20)])
    assert all((new == old).all() for new, old in zip(*results, strict=True))
