"""Folders and lists number the classes alike, or the command stops and says why."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image

from mmpospretrain.datasets import CustomDataset, ImageFolder, ImageNet
from mmpospretrain.datasets.labelled import check_layout, labelled_datasets

CLASSES = ('ant', 'bee', 'cat')


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(root / name)


@pytest.fixture
def root(tmp_path) -> Path:
    """Two images of each class for the training, one for the validation."""
    fill(tmp_path, *(f'train/{name}/{k}.jpg' for name in CLASSES for k in '01'))
    fill(tmp_path, *(f'val/{name}/2.jpg' for name in CLASSES))
    return tmp_path


def config(root: Path, kind: str = 'ImageNet', **options) -> Config:
    common = dict(type=kind, data_root=str(root), **options)
    train = dict(common, data_prefix='train')
    val = dict(common, data_prefix='val')
    return Config(
        dict(
            default_scope='mmpretrain',
            train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=train)),
            val_dataloader=dict(dataset=val),
            test_dataloader=dict(dataset=val),
            model=dict(head=dict(num_classes=3)),
        )
    )


def refused(root: Path, *, classes=CLASSES, **options) -> str:
    metainfo = dict(classes=classes) if classes else None
    with pytest.raises(ValueError) as error:
        check_layout(config(root, metainfo=metainfo, **options))
    return str(error.value)


@pytest.mark.parametrize(
    ('classes', 'text'),
    [
        (('bee', 'ant', 'cat'), "0 is 'ant' here and 'bee' there"),
        (('ant', 'cat', 'bee'), "1 is 'bee' here and 'cat' there"),
        (('Ant', 'bee', 'cat'), 'only one has Ant, ant'),
        (('ant', 'bee'), 'only one has cat'),
        (('ant', 'bee', 'cat', 'dog'), 'only one has dog'),
        (('ANT', 'BEE', 'CAT'), 'only one has ANT, BEE, CAT, ant, bee and 1 more'),
        (('one', 'two'), 'has 3 folders of classes, but metainfo.classes names 2'),
    ],
)
@pytest.mark.parametrize('kind', ['ImageNet', 'CustomDataset'])
def test_names_are_those_of_metainfo(kind, classes, text, root):
    message = refused(root, classes=classes, kind=kind)
    assert message.startswith(f'{root}/train has ')
    assert text in message
    assert 'Folders number the classes in sorted order' in message


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda val: (val / 'bee').rename(val / 'BEE'), 'only one has BEE, bee'),
        (lambda val: fill(val, 'dog/0.jpg'), 'only one has dog'),
        (lambda val: (val / 'ant').rename(val / 'zebra'), 'only one has ant, zebra'),
        (lambda val: fill(val, 'Cat/0.jpg'), 'differ in case alone: Cat, cat'),
    ],
)
@pytest.mark.parametrize('kind', ['CustomDataset', 'mmpospretrain.ImageFolder'])
def test_validation_has_the_folders_of_the_training(kind, change, text, root):
    check_layout(config(root, kind, with_label=True))
    change(root / 'val')
    message = refused(root, classes=None, kind=kind, with_label=True)
    assert message.startswith((f'{root}/val has', f'folders of classes in {root}/val'))
    assert text in message


def test_folders_may_be_called_otherwise(root, told):
    """As ImageNet's, whose names no folder has."""
    check_layout(config(root, metainfo=dict(classes=('Ameise', 'Biene', 'Katze'))))
    assert "ant is 'Ameise', bee is 'Biene', cat is 'Katze'" in told[0]
    assert len(told) == 2  # not of the test again
    assert 'has other classes than metainfo.classes' in refused(root, classes=None)


@pytest.mark.parametrize('hidden', ['.ipynb_checkpoints', '.git', 'bee/.thumbnails'])
@pytest.mark.parametrize(
    ('kind', 'ours'),
    [
        ('ImageNet', ImageNet),
        ('mmpretrain.CustomDataset', CustomDataset),
        ('mmpospretrain.ImageFolder', ImageFolder),
    ],
)
def test_hidden_folders_do_not_count(kind, ours, hidden, root, told):
    options = dict(metainfo=dict(classes=CLASSES), with_label=True)
    for split in ('train', 'val'):
        fill(root / split, f'{hidden}/9.jpg')
    cfg = config(root, kind, **options)
    check_layout(cfg)
    assert any(hidden in text and 'do not count' in text for text in told)
    for dataset, count in zip(labelled_datasets(cfg), (6, 3, 3), strict=True):
        built = DATASETS.build(dataset)
        assert type(built) is ours
        labels = {
            Path(s['img_path']).parts[-2]: s['gt_label']
            for s in map(built.get_data_info, range(len(built)))
        }
        assert labels == {'ant': 0, 'bee': 1, 'cat': 2}
        assert len(built) == count


def test_an_empty_hidden_folder_in_one_split(root):
    (root / 'train/.ipynb_checkpoints').mkdir()
    cfg = config(root, metainfo=dict(classes=CLASSES))
    check_layout(cfg)
    assert [d.type for d in labelled_datasets(cfg)] == [
        'mmpospretrain.ImageNet',
        'ImageNet',
        'ImageNet',
    ]
    assert len(DATASETS.build(next(labelled_datasets(cfg)))) == 6


def test_hidden_folders_of_other_kinds_are_to_be_removed(root):
    fill(root, 'train/.git/0.jpg')
    assert 'ImageNet21k would count hidden folders' in refused(root, kind='ImageNet21k')


@pytest.mark.parametrize(
    ('files', 'text'),
    [
        (['dog/0.jfif'], '1 × .jfif in'),
        (['ant/0.gif', 'bee/0.gif', 'bee/1.webp'], '2 × .gif, 1 × .webp in'),
        (['loose.jpg'], '1 × .jpg in'),
    ],
)
def test_files_left_out(files, text, root, told):
    for split in ('train', 'val'):
        fill(root / split, 'dog/0.jpg')
    fill(root / 'train', *files)
    check_layout(config(root, metainfo=dict(classes=(*CLASSES, 'dog'))))
    assert len(told) == 1
    assert told[0].startswith(text)
    assert ' left out: images lie in the folder of their class' in told[0]


def test_folders_without_images(root, told):
    (root / 'train/bee/0.jpg').unlink()
    (root / 'train/bee/1.jpg').unlink()
    check_layout(config(root, metainfo=dict(classes=CLASSES)))
    assert told == [f'1 of the 3 folders of classes in {root}/train have no image: bee']
    for path in root.glob('train/*/*.jpg'):
        path.rename(path.with_suffix('.gif'))
    message = refused(root)
    assert message.startswith(f'no image in the 3 folders of classes in {root}/train')
    assert message.endswith('There are 4 × .gif.')


def test_no_folders(tmp_path):
    fill(tmp_path, 'train/0.jpg', 'val/0.jpg')
    assert refused(tmp_path).startswith(f'{tmp_path}/train has no folders')


def test_images_in_folders_of_a_class(root):
    fill(root, 'train/ant/red/3.jpg')
    check_layout(config(root, metainfo=dict(classes=CLASSES)))


def listed(root: Path, text: str, **options) -> Config:
    (root / 'list.txt').write_text(text, encoding='utf-8')
    cfg = config(root, 'CustomDataset', **options)
    for dataset in labelled_datasets(cfg):
        dataset.update(data_prefix='', ann_file='list.txt')
    return cfg


LINES = [f'train/{name}/0.jpg {label}\n' for label, name in enumerate(CLASSES)]


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        (''.join(LINES).replace('0\n', '3\n'), '1 of the 3 labels in .* none of 3 cla'),
        ('train/ant/0.jpg -1\n', r'0 to 2: -1\.'),
        (
            'train/ant/0.jpg 1\ntrain/bee/0.jpg 2\ntrain/cat/0.jpg 3\n',
            r'0 to 2: 3\. They seem to begin at 1',
        ),
        ('\ufeff' + LINES[0], 'begins with a byte-order mark'),
        (LINES[0] + '\n' + LINES[1], "line 2 of .*: ''"),
        (LINES[0].replace(' ', '\t'), 'line 1 of .* is no path, blank and number'),
        ('train/ant/0.jpg\n', 'line 1 of '),
    ],
)
@pytest.mark.parametrize('options', [{}, dict(metainfo=dict(classes=CLASSES))])
def test_lists(text, error, options, root):
    """Where no class is named, the head has three outputs."""
    with pytest.raises(ValueError, match=error):
        check_layout(listed(root, text, **options))


def test_images_of_a_list(root, told):
    check_layout(listed(root, ''.join(LINES)))
    assert not told
    check_layout(listed(root, LINES[0] + LINES[2]))
    assert told[0] == f'1 of the 3 classes have no image in {root}/list.txt: 1'
    text = ''.join(LINES).replace('bee', 'wasp')
    with pytest.raises(FileNotFoundError, match='1 of the 3 images that') as error:
        check_layout(listed(root, text))
    assert str(error.value).endswith(f'are missing: {root}/train/wasp/0.jpg')
    check_layout(listed(root, text, indices=1))  # the others are not read


def test_a_word_is_no_list_of_classes(root):
    with pytest.raises(ValueError, match=r"metainfo\.classes='ant' is neither a list"):
        check_layout(listed(root, ''.join(LINES), metainfo=dict(classes='ant')))
