"""Tiny ImageNet as its zip unpacks: found and labelled, or told what is missing."""

import pytest
from mmengine.dataset import pseudo_collate
from mmpretrain.datasets import LoadImageFromFile, PackInputs
from PIL import Image

from mmpospretrain.datasets import TinyImageNet
from mmpospretrain.datasets.tiny_imagenet import LAYOUT
from mmpospretrain.registry import DATASETS

# Not in alphabetical order, as in the original.
TONES = {'n02124075': 30, 'n01443537': 90, 'n04067472': 150}


@pytest.fixture
def tiny(tmp_path):
    """Two training images and one validation image of each class, by tone."""
    root = tmp_path / 'tiny-imagenet-200'
    (root / 'val/images').mkdir(parents=True)
    (root / 'test/images').mkdir(parents=True)
    (root / 'wnids.txt').write_text('\n'.join(TONES) + '\n')
    lines = []
    for number, (wnid, tone) in enumerate(TONES.items()):
        folder = root / 'train' / wnid / 'images'
        folder.mkdir(parents=True)
        (folder.parent / f'{wnid}_boxes.txt').write_text('n_0.JPEG\t0\t0\t7\t7\n')
        image = Image.new('RGB', (8, 8), (tone,) * 3)
        for index in range(2):
            image.save(folder / f'{wnid}_{index}.JPEG')
        image.save(root / 'val/images' / f'val_{number}.JPEG')
        lines.insert(0, f'val_{number}.JPEG\t{wnid}\t0\t0\t7\t7\n')
    (root / 'val/val_annotations.txt').write_text(''.join(lines))
    return root


def tone(data):
    return int(data['img'][0, 0, 0])


@pytest.mark.parametrize(('split', 'count'), [('train', 6), ('val', 3)])
def test_labels_follow_wnids(tiny, split, count):
    dataset = TinyImageNet(data_root=str(tiny), split=split)
    assert len(dataset) == count
    assert [*dataset.CLASSES] == [*TONES]
    for sample in dataset:
        assert [*TONES.values()][sample['gt_label']] == tone(sample)
        assert sample['img'].shape == (8, 8, 3)
    assert {*dataset.get_gt_labels()} == {0, 1, 2}


@pytest.mark.parametrize('split', ['train', 'val'])
def test_without_labels(tiny, split):
    dataset = TinyImageNet(data_root=str(tiny), split=split, with_label=False)
    assert 'gt_label' not in dataset[0]
    assert {tone(sample) for sample in dataset} == {*TONES.values()}


@pytest.mark.parametrize(
    'head', [[], [LoadImageFromFile()]], ids=['ours', 'mmpretrain']
)
def test_both_kinds_of_pipelines(tiny, head):
    dataset = TinyImageNet(data_root=str(tiny), pipeline=[*head, PackInputs()])
    sample = dataset[3]
    assert sample['inputs'].shape == (3, 8, 8)
    assert sample['data_samples'].gt_label.item() == 0
    assert sample['data_samples'].img_path.endswith('n02124075_1.JPEG')
    assert len(pseudo_collate([sample, dataset[0]])['inputs']) == 2


def test_home_is_expanded(tiny, monkeypatch):
    monkeypatch.setenv('HOME', str(tiny.parent))
    assert len(TinyImageNet(data_root='~/tiny-imagenet-200')) == 6


def test_by_name():
    assert DATASETS.get('TinyImageNet') is TinyImageNet


def missing(root, split='train'):
    with pytest.raises(FileNotFoundError) as error:
        TinyImageNet(data_root=str(root), split=split)
    message = str(error.value)
    assert '--data' in message
    assert message.endswith(LAYOUT)
    return message


@pytest.mark.parametrize('split', ['train', 'val'])
def test_wrong_folder(tiny, tmp_path, split):
    for wrong in (tmp_path, tiny / 'train', tmp_path / 'nothing'):
        assert f'there is no {wrong / "wnids.txt"},' in missing(wrong, split)


def test_a_class_without_images(tiny):
    for path in (tiny / 'train/n01443537/images').iterdir():
        path.unlink()
    expected = f'there is no image of class n01443537 in {tiny / "train"},'
    assert expected in missing(tiny)


def test_no_val_annotations(tiny):
    (tiny / 'val/val_annotations.txt').unlink()
    assert f'there is no {tiny / "val/val_annotations.txt"},' in missing(tiny, 'val')


def test_image_named_but_absent(tiny):
    for number in (0, 2):
        (tiny / f'val/images/val_{number}.JPEG').unlink()
    message = missing(tiny, 'val')
    assert f'there is no {tiny / "val/images/val_2.JPEG"}, the first of 2' in message
    assert 'val_annotations.txt names' in message


@pytest.mark.parametrize('split', ['train', 'val'])
def test_unknown_class(tiny, split):
    (tiny / 'wnids.txt').write_text('n02124075\nn01443537\n')
    with pytest.raises(ValueError, match="'n04067472', which is not among the 2 of"):
        TinyImageNet(data_root=str(tiny), split=split)


def test_test_images_have_no_labels(tiny):
    with pytest.raises(ValueError, match=r"no labels: take split='val', or .*Folder"):
        TinyImageNet(data_root=str(tiny), split='test')


def test_unknown_split(tiny):
    with pytest.raises(ValueError, match=r"split must be one of .* got 'valid'"):
        TinyImageNet(data_root=str(tiny), split='valid')
