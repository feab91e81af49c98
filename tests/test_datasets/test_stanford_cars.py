"""Stanford Cars in both layouts: read as MMPretrain does, or told what is missing."""

import numpy as np
import pytest
from mmpretrain.datasets import LoadImageFromFile, PackInputs
from PIL import Image
from scipy.io import savemat

from mmpospretrain.datasets import StanfordCars
from mmpospretrain.datasets.stanford_cars import LAYOUT
from mmpospretrain.registry import DATASETS

CLASSES = {'train': [14, 196, 3], 'test': [181, 1]}  # from 1, as in the annotations


def annotate(path, **columns):
    """A struct array, as Stanford's files are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [*columns]
    rows = [tuple(row) for row in zip(*columns.values(), strict=True)]
    array = np.array(rows, dtype=[(name, object) for name in names])
    savemat(path, {'annotations': array[None]})


def draw(folder, count, digits=5):
    folder.mkdir(parents=True, exist_ok=True)
    names = [f'{index:0{digits}}.jpg' for index in range(1, count + 1)]
    for name in names:
        Image.new('RGB', (8, 8)).save(folder / name)
    return names


@pytest.fixture
def split_layout(tmp_path):
    root = tmp_path / 'split'
    for split, suffix in (('train', ''), ('test', '_withlabels')):
        names = draw(root / f'cars_{split}', len(CLASSES[split]))
        path = root / 'devkit' / f'cars_{split}_annos{suffix}.mat'
        annotate(path, fname=names, **{'class': CLASSES[split]})
    return root


@pytest.fixture
def joint_layout(tmp_path):
    root = tmp_path / 'joint'
    names = draw(root / 'car_ims', 5, digits=6)
    annotate(
        root / 'cars_annos.mat',
        relative_im_path=[f'car_ims/{name}' for name in names],
        test=[0, 0, 0, 1, 1],
        **{'class': [label for split in CLASSES.values() for label in split]},
    )
    return root


@pytest.mark.parametrize('split', CLASSES)
@pytest.mark.parametrize('layout', ['split_layout', 'joint_layout'])
def test_both_layouts(request, layout, split):
    root = request.getfixturevalue(layout)
    pipeline = [LoadImageFromFile(), PackInputs()]
    dataset = StanfordCars(data_root=str(root), split=split, pipeline=pipeline)
    assert [label + 1 for label in dataset.get_gt_labels()] == CLASSES[split]
    assert dataset[0]['inputs'].shape == (3, 8, 8)
    assert len(dataset.CLASSES) == 196


def test_by_name():
    assert DATASETS.get('StanfordCars') is StanfordCars


def missing(root, split):
    with pytest.raises(FileNotFoundError) as error:
        StanfordCars(data_root=str(root), split=split)
    assert '--data' in str(error.value)
    assert str(error.value).endswith(LAYOUT)
    return str(error.value)


@pytest.mark.parametrize('split', CLASSES)
def test_wrong_folder(split_layout, tmp_path, split):
    for wrong in (tmp_path, split_layout / 'devkit', tmp_path / 'nothing'):
        message = missing(wrong, split)
        assert f'there is no {wrong / "devkit"}' in message
        assert 'no labels' not in message


def test_test_annotations_without_labels(split_layout):
    devkit = split_layout / 'devkit'
    labelled = devkit / 'cars_test_annos_withlabels.mat'
    labelled.rename(devkit / 'cars_test_annos.mat')
    message = missing(split_layout, 'test')
    assert f'there is no {labelled}, which StanfordCars needs' in message
    assert 'cars_test_annos.mat has no labels; they are a separate file' in message
    StanfordCars(data_root=str(split_layout), split='train')


@pytest.mark.parametrize('split', CLASSES)
@pytest.mark.parametrize('layout', ['split_layout', 'joint_layout'])
def test_images_elsewhere(request, layout, split):
    """As in the copies that have cars_train/cars_train/."""
    root = request.getfixturevalue(layout)
    name = f'cars_{split}' if layout == 'split_layout' else 'car_ims'
    (root / name).rename(root / 'away')
    message = missing(root, split)
    assert f'there is no {root / name}' in message
    assert '_annos' in message


def test_unknown_split(split_layout):
    with pytest.raises(ValueError, match=r"split must be one of .* got 'val'"):
        StanfordCars(data_root=str(split_layout), split='val')
