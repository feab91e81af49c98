"""Labelled data of a fine-tuning: where it is, and whether it is what was expected.

MMDetection, MMSegmentation and MMPretrain find out one file at a time, after the model
is built. Here it is known before anything runs, with the layout that was expected.
"""

import json
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from .image_source import missing
from .scenes import SHAPES
from .stanford_cars import LAYOUT as STANFORD_CARS
from .tiny_imagenet import LAYOUT as TINY_IMAGENET

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')

# By the type of the data set, without its scope.
LAYOUTS = {
    'CocoDataset': """\
DIR/
├── annotations/instances_train2017.json
│                instances_val2017.json
├── train2017/000000000009.jpg …
└── val2017/000000000139.jpg …""",
    'ADE20KDataset': """\
DIR/                                    (ADEChallengeData2016)
├── images/training/ADE_train_00000001.jpg …
│          validation/ADE_val_00000001.jpg …
└── annotations/training/ADE_train_00000001.png …
                validation/ADE_val_00000001.png …""",
    'ImageNet': """\
DIR/
├── train/n01440764/n01440764_18.JPEG …
└── val/n01440764/ILSVRC2012_val_00000293.JPEG …""",
    'TinyImageNet': TINY_IMAGENET,
    'StanfordCars': STANFORD_CARS,
    'CIFAR10': """\
DIR/
└── cifar-10-batches-py/data_batch_1 … data_batch_5
                        test_batch""",
    'CIFAR100': """\
DIR/
└── cifar-100-python/train
                     test""",
}
# Of data sets whose configs name none.
FILES = {
    'CIFAR10': [
        *(f'cifar-10-batches-py/data_batch_{number}' for number in range(1, 6)),
        'cifar-10-batches-py/test_batch',
    ],
    'CIFAR100': ['cifar-100-python/train', 'cifar-100-python/test'],
}
PHOTOSHAPES = 'PhotoShapes: python -m mmpospretrain.datasets.photoshapes DIR'
YOUR_CLASSES = '"Your classes" in configs/transfer/README.md'


def labelled_datasets(
    cfg: Config, loaders: Sequence[str] = LOADERS
) -> Iterator[ConfigDict]:
    """The data sets of some loaders, by default all, out of their wrappers."""
    for name in loaders:
        if cfg.get(name):
            dataset = cfg[name].dataset
            while 'dataset' in dataset:  # RepeatDataset, ClassBalancedDataset, …
                dataset = dataset.dataset
            yield dataset


def set_data_root(cfg: Config, root: str) -> None:
    """Point loaders and evaluators at another folder of the same layout."""
    old = {dataset.get('data_root', '') for dataset in labelled_datasets(cfg)}
    for dataset in labelled_datasets(cfg):
        dataset.data_root = root
    for name in EVALUATORS:
        evaluators = cfg.get(name) or []
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            ann_file = evaluator.get('ann_file')
            for prefix in filter(None, old):
                if ann_file and ann_file.startswith(prefix):
                    rest = ann_file.removeprefix(prefix).lstrip('/')
                    evaluator.ann_file = str(Path(root, rest))


def check_layout(cfg: Config, loaders: Sequence[str] = LOADERS) -> None:
    """See that the files and folders that the data sets name are there, and fit.

    The categories of a file in COCO's format must be the classes of its data set, and
    every image for segmentation must have a map.

    Args:
        cfg: A whole config.
        loaders: Those that will be read.

    Raises:
        FileNotFoundError: Names the first that is not there, and the layout expected;
            or the images and maps that a folder lacks.
        ValueError: If categories and classes differ, a file is not in COCO's format, or
            no image has the right suffix.
    """
    datasets = [
        dataset
        for dataset in labelled_datasets(cfg, loaders)
        if dataset.type != 'mmpospretrain.ImageFolder'  # has errors of its own
    ]
    for dataset in datasets:
        for path in _required(dataset):
            if not path.exists():
                kind = str(dataset.type).rpartition('.')[2]
                classes = dataset.get('metainfo', {}).get('classes', ())
                layout = PHOTOSHAPES if {*SHAPES} <= {*classes} else LAYOUTS.get(kind)
                raise missing(path, kind, layout)
    # In every process: if one alone found an error, the others would wait for it.
    for index, dataset in enumerate(datasets):
        if dataset not in datasets[:index]:  # that of the test is that of validation
            _check_content(dataset, cfg.get('default_scope'))


def _required(dataset: ConfigDict) -> Iterator[Path]:
    root = Path(dataset.get('data_root') or '').expanduser()
    if dataset.get('data_root'):
        yield root
    prefix = dataset.get('data_prefix') or {}
    folders = [prefix] if isinstance(prefix, str) else prefix.values()
    files = FILES.get(str(dataset.type).rpartition('.')[2], ())
    parts = [dataset.get('ann_file'), *folders, *files]
    if str(dataset.type).endswith('ImageNet') and not any(parts):
        parts.append(dataset.get('split'))
    yield from (root / part for part in parts if isinstance(part, str) and part)


def _check_content(dataset: ConfigDict, scope: str | None) -> None:
    with DATASETS.switch_scope_and_registry(scope) as registry:
        name = dataset.type
        kind = registry.get(name) if isinstance(name, str) else name
    prefix = dataset.get('data_prefix') or {}
    has_maps = isinstance(prefix, dict) and (
        prefix.get('img_path') and prefix.get('seg_map_path')
    )
    has_categories = dataset.get('ann_file') and _reads_categories(kind)
    if has_maps or has_categories:
        # The data set itself knows best which classes, suffixes and paths its
        # defaults are. Nothing is read yet.
        lazily = dict(pipeline=[], lazy_init=True, serialize_data=False)
        built = DATASETS.build({**dataset, **lazily, '_scope_': scope})
        if has_categories:
            _check_categories(built.ann_file, built.metainfo)
        else:
            _check_maps(built)


def _reads_categories(kind: type | None) -> bool:
    """Whether a data set finds its classes by their names in a file of COCO's format.

    Relatives of COCO's with a reader of their own, as LVIS, may do otherwise.
    """
    if not hasattr(kind, 'COCOAPI'):
        return False
    from mmdet.datasets import CocoDataset  # slow, and here it has been imported

    return getattr(kind, 'load_data_list', None) is CocoDataset.load_data_list


def _check_categories(path: str, metainfo: dict) -> None:
    """See that MMDetection would number the categories of a file as the config does.

    Classes that only the config has do no harm at its end: the file has none of their
    objects. Categories that only the file has would be dropped without a word. From
    the names alone nobody can tell whether that is meant, so it must be said:
    ``metainfo=dict(classes=…, subset=True)``. Where each has some that the other lacks,
    they are of different data, and no subset.
    """
    classes = metainfo['classes']
    if isinstance(classes, str):  # and no file, which would have been read
        raise ValueError(
            f'metainfo.classes={classes!r} is neither a list nor a file. A single '
            f'class is written classes=({classes!r},)'
        )
    names = _category_names(path)
    kept = [name for name in names if name in classes]
    lost = [name for name in names if name not in classes]
    others = [name for name in classes if name not in names]
    if lost and (others or not metainfo.get('subset')):
        raise ValueError(
            f'{path} has other classes than the config.\n'
            f'Only in the file: {_some(lost)}\n'
            f'Only in the config: {_some(others)}\n'
            'What the config lacks would count as background. Write metainfo=dict('
            'classes=…) into the data sets of all loaders and num_classes='
            f'{len(names)} into the box and mask heads: see {YOUR_CLASSES}. If '
            'the file has all of the config, and the others are left out on purpose, '
            'add subset=True to metainfo.'
        )
    for label, (theirs, ours) in enumerate(zip_longest(kept, classes[: len(kept)])):
        if theirs != ours:
            # Labels are numbers: predictions would get wrong names, and two files in
            # different orders wrong labels.
            raise ValueError(
                f'{path} and the config number classes differently: {label} is '
                f'{theirs!r} in the file and {ours!r} in the config. MMDetection goes '
                'by the order of the file. Write metainfo.classes in that order, the '
                'same in all files; a category without objects must be listed too, '
                f'unless it is among the last. See {YOUR_CLASSES}.'
            )


def _category_names(path: str) -> list[str]:
    """Names of the categories of a file in COCO's format, in its order.

    Raises:
        ValueError: If the file is not JSON, or has no categories with names.
    """
    with open(path, 'rb') as file:
        categories = _find_categories(file)
        if categories is None:
            try:
                content = json.load(file)
            except ValueError as error:
                raise ValueError(f'{path} is not JSON: {error}') from error
            categories = (
                content.get('categories') if isinstance(content, dict) else None
            )
    try:
        names = [category['name'] for category in categories]
    except (KeyError, TypeError):
        names = []
    if not names:
        raise ValueError(
            f"{path} is not in COCO's format: it has no list of `categories`, each "
            'with an id and a name'
        )
    return names


def _find_categories(file: BinaryIO) -> list | None:
    """The one array called categories in JSON text; None if it must be parsed.

    COCO's training annotations are 450 MB, which take a parser many seconds and some
    GB of memory. Quotes within strings are escaped, so what is found is a key.
    """
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = re.finditer(rb'"categories"\s*:\s*(?=\[)', text)
            (start,) = [match.end() for match in found]
            part = text[start : start + 2**24]  # LVIS's 1203 categories: 0.4 MB
        # The end of the part may cut a character in two.
        return json.JSONDecoder().raw_decode(part.decode(errors='ignore'))[0]
    except ValueError:  # an empty file, none or several, or a longer array
        return None


def _check_maps(dataset: BaseDataset) -> None:
    """See that the images and maps a data set would read are there, by their names."""
    kind = type(dataset).__name__
    dataset.full_init()
    samples = dataset.data_list  # whole, as it is not serialized
    suffix = getattr(dataset, 'img_suffix', '')
    if not samples:
        raise ValueError(
            f'{kind} finds no image in {dataset.data_prefix["img_path"]} that ends in '
            f'{suffix!r}. Set img_suffix in the data sets of all loaders, and '
            f'seg_map_suffix: see {YOUR_CLASSES}.'
        )
    for key, what in (('img_path', 'images'), ('seg_map_path', 'maps')):
        there: dict[str, set[str]] = {}  # by folder: one look into each is quick
        lost = []
        for folder, name in (os.path.split(sample[key]) for sample in samples):
            if folder not in there:
                there[folder] = (
                    {*os.listdir(folder)} if os.path.isdir(folder) else set()
                )
            if name not in there[folder]:
                lost.append((folder, name))
        if lost:
            raise FileNotFoundError(
                f'{len(lost)} of the {len(samples)} {what} that {kind} needs are '
                f'missing. Expected in {lost[0][0]}: '
                f'{_some([name for _, name in lost], 5)}. A map is called as its '
                f'image, but for img_suffix={suffix!r} and '
                f'seg_map_suffix={getattr(dataset, "seg_map_suffix", "")!r}. Set '
                'these, or name the images to be used in ann_file, without suffix.'
            )


def _some(names: Sequence[str], number: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f' and {len(names) - number} more' if len(names) > number else ''
    return (', '.join(map(str, names[:number])) or 'none') + more
