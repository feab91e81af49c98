"""Fine-tunings of all three libraries skip and count what they cannot read."""

import os

import numpy as np
import pytest
from drawn_images import save_images
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image, PngImagePlugin

from mmpospretrain.datasets import BrokenImagesError
from mmpospretrain.datasets.skipping import skip_broken_in_loader, take_shares

BASES = 'configs/_base_/datasets/photoshapes_{}.py'
SCOPES = {'cls': 'mmpretrain', 'coco': 'mmdet', 'seg': 'mmseg'}
NAMES = ('cls', 'coco', 'seg')


def loader_of(kind, name, root, **options):
    """A loader of a PhotoShapes config, for samples one by one."""
    init_default_scope(SCOPES[kind])
    cfg = Config.fromfile(BASES.format(kind))[name]
    cfg.update(num_workers=0, persistent_workers=False, batch_size=1)
    cfg.sampler = dict(type='DefaultSampler', shuffle=False)
    cfg.dataset.update(data_root=str(root), **options)
    cfg.dataset.pop('indices', None)
    shares = take_shares(cfg)
    loader = Runner.build_dataloader(cfg)
    skip_broken_in_loader(loader, name, shares)
    return loader


def sample_of(data):
    return np.asarray(data['inputs']), data['data_samples']


def spoil(path, how):
    """Three ways in which a file may not be there."""
    data = path.read_bytes()
    path.unlink()
    if how == 'empty':
        path.touch()
    elif how == 'truncated':
        path.write_bytes(data[: len(data) // 2])
    elif how == 'fifo':
        os.mkfifo(path)


@pytest.fixture
def path_of(mine):
    """The image of a number in a split."""
    return lambda split, index: sorted((mine / split).iterdir())[index]


@pytest.mark.parametrize('how', ['empty', 'truncated', 'fifo', 'gone'])
@pytest.mark.parametrize('kind', NAMES)
def test_training_goes_on_with_the_next(kind, how, mine, path_of, log_file):
    loader = loader_of(kind, 'train_dataloader', mine)
    broken = path_of('train', 2)
    spoil(broken, how)
    samples = [sample_of(data)[1] for data in loader.dataset]
    assert len(samples) == 8
    assert samples[2].img_path == samples[3].img_path != str(broken)
    log = log_file.read_text()
    assert log.count(f'skipped: cannot read {broken} (') == 1
    assert '1 of 8 images so far' in log


@pytest.mark.parametrize('kind', ['cls', 'seg'])
def test_validation_goes_on_with_the_next(kind, mine, path_of):
    loader = loader_of(kind, 'val_dataloader', mine)
    spoil(path_of('val', 2), 'empty')
    paths = [sample_of(data)[1].img_path for data in loader.dataset]
    assert paths == [str(path_of('val', index)) for index in (0, 1, 0)]


def test_a_detector_is_shown_a_black_image_in_validation(mine, path_of):
    whole = [sample_of(data)[1] for data in loader_of('coco', 'val_dataloader', mine)]
    loader = loader_of('coco', 'val_dataloader', mine)
    spoil(path_of('val', 1), 'empty')
    for _ in range(2):
        found = [sample_of(data) for data in loader.dataset]
        assert [s.img_id for _, s in found] == [s[0].img_id for s in whole]
        assert [bool(image.any()) for image, _ in found] == [True, False, True]
        image, sample = found[1]
        assert image.shape == (3, 112, 112)
        assert sample.img_shape == (112, 112)
        assert sample.ori_shape == (64, 64)
        assert len(sample.gt_instances) == len(whole[1][0].gt_instances)


def test_a_broken_map(mine, log_file):
    loader = loader_of('seg', 'train_dataloader', mine)
    masks = sorted((mine / 'masks/train').iterdir())
    spoil(masks[0], 'empty')
    data = loader.dataset[0]
    assert sample_of(data)[1].seg_map_path == str(masks[1])
    assert f'skipped: cannot read {masks[0]}' in log_file.read_text()


@pytest.mark.parametrize('kind', NAMES)
@pytest.mark.parametrize(
    ('name', 'run'),
    [
        ('train_dataloader', 'training'),
        ('val_dataloader', 'training'),
        ('test_dataloader', 'testing'),
    ],
)
def test_the_error_names_the_option_that_helps(kind, name, run, mine, path_of):
    split = name[:-11].replace('test', 'val')
    spoil(path_of(split, 0), 'empty')
    spoil(path_of(split, 1), 'empty')
    advice = f'in {run} by --cfg-options {name}.dataset.max_broken_share=0.1'
    with pytest.raises(BrokenImagesError, match=f'2 of . images .*, {advice}$'):
        list(loader_of(kind, name, mine).dataset)
    list(loader_of(kind, name, mine, max_broken_share=0.9).dataset)


def test_a_share_out_of_range(mine):
    with pytest.raises(ValueError, match='max_broken_share must be in'):
        loader_of('cls', 'train_dataloader', mine, max_broken_share=2)


def test_wrappers(mine, path_of):
    """Places are those of the config, so that the advice can be followed."""
    init_default_scope('mmpretrain')
    part = Config.fromfile(BASES.format('cls')).val_dataloader.dataset
    part.data_root = str(mine)
    image_folder = dict(
        type='mmpospretrain.ImageFolder', data_root=str(mine / 'val'), pipeline=[]
    )
    concat = dict(
        type='ConcatDataset',
        datasets=[dict(part, max_broken_share=0.5), part],
    )
    cfg = dict(
        dataset=dict(type='RepeatDataset', times=2, dataset=concat),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
    )
    shares = take_shares(cfg)
    assert shares == {'dataset.dataset.datasets.0': 0.5}
    loader = Runner.build_dataloader(cfg)
    skip_broken_in_loader(loader, 'train_dataloader', shares)
    spoil(path_of('val', 0), 'empty')
    spoil(path_of('val', 1), 'empty')
    with pytest.raises(BrokenImagesError, match=r'train_dataloader\.dataset\.dataset'):
        list(loader)
    assert take_shares({'dataset': dict(image_folder, max_broken_share=1)}) == {}


def test_what_opencv_does_not_read_pillow_may(mine, path_of):
    text = PngImagePlugin.PngInfo()
    text.add_text('k', 'x' * 3_000_000, zip=True)
    paths = [path_of('train', index) for index in range(3)]
    Image.new('RGB', (64, 64), (9, 9, 9)).save(paths[0], 'PNG', pnginfo=text)
    Image.new('P', (64, 64)).save(paths[1], 'GIF')
    Image.new('RGB', (64, 64), (9, 9, 9)).save(paths[2], 'ICNS')
    dataset = loader_of('cls', 'train_dataloader', mine, max_broken_share=0).dataset
    for index in range(3):
        assert dataset[index]['inputs'].shape[0] == 3
        assert dataset[index]['data_samples'].img_path == str(paths[index])


def test_errors_of_transforms_are_raised(mine):
    def divide(data):
        raise ZeroDivisionError('a mistake in the transform')

    dataset = loader_of('cls', 'train_dataloader', mine).dataset
    dataset.pipeline.transforms.insert(1, divide)
    with pytest.raises(ZeroDivisionError):
        _ = dataset[0]


def test_a_grey_loader_keeps_its_ways(tmp_path):
    save_images(tmp_path, 2)
    (tmp_path / '000.png').write_bytes(b'')
    loader = dict(type='LoadImageFromFile', color_type='grayscale', to_float32=True)
    cfg = dict(
        dataset=dict(
            type='CustomDataset',
            data_root=str(tmp_path),
            with_label=False,
            pipeline=[loader, lambda data: data['img']],
        ),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
    )
    loader = Runner.build_dataloader(cfg)
    skip_broken_in_loader(loader, 'val_dataloader', {})
    assert loader.dataset[0].shape == (6, 8)
    assert loader.dataset[0].dtype == np.float32
    assert loader.dataset[0].max() == 1
