"""Labelled data of a fine-tuning: where it is, and whether it is what was expected.

MMDetection, MMSegmentation and MMPretrain find out one file at a time, after the model
is built. Here it is known before anything runs, with the layout that was expected.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from mmpospretrain.registry import registered

from .broken_images import MAX_BROKEN_SHARE
from .coco_labels import check_annotations, reads_categories
from .folder_labels import check_classes
from .head_classes import check_heads
from .image_files import find_circle
from .image_folder import ImageFolder
from .image_source import check_encoding, missing
from .map_labels import check_maps, reads_maps
from .scenes import SHAPES
from .stanford_cars import LAYOUT as STANFORD_CARS
from .tiny_imagenet import LAYOUT as TINY_IMAGENET
from .unread import build_unread

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


def labelled_datasets(
    cfg: Config, loaders: Sequence[str] = LOADERS
) -> Iterator[ConfigDict]:
    """The data sets of some loaders, by default all, out of their wrappers."""
    for name in loaders:
        if cfg.get(name):
            yield from _unwrapped(cfg[name].dataset)


def _unwrapped(dataset: ConfigDict) -> Iterator[ConfigDict]:
    if 'dataset' in dataset:  # RepeatDataset, ClassBalancedDataset, …
        yield from _unwrapped(dataset.dataset)
    elif 'datasets' in dataset:  # ConcatDataset
        for part in dataset.datasets:
            yield from _unwrapped(part)
    else:
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

    The categories of a file in COCO's format must be the classes of its data set,
    every image for segmentation must have a map of class numbers, and folders of
    classes must have the same names everywhere; hidden ones are left out.

    Args:
        cfg: A whole config.
        loaders: Those that will be read.

    Raises:
        FileNotFoundError: Names the first that is not there, and the layout expected;
            or the images and maps that a folder lacks.
        ValueError: If categories and classes differ, a file is not in COCO's format, no
            image has the right suffix, labels are none of the classes, links make a
            circle, or a list is not UTF-8 or begins with a byte-order mark.
    """
    scope = cfg.get('default_scope')
    datasets = [
        dataset
        for dataset in labelled_datasets(cfg, loaders)
        # has errors of its own
        if registered(dataset.type, DATASETS, scope) is not ImageFolder
    ]
    for dataset in datasets:
        kind = _kind(dataset, scope)
        paths = [*_required(dataset, kind)]
        for path in paths:
            if not path.exists():
                classes = dataset.get('metainfo', {}).get('classes', ())
                layout = PHOTOSHAPES if {*SHAPES} <= {*classes} else LAYOUTS.get(kind)
                raise missing(path, kind, layout)
        _check_readable(paths[1:] or paths, walks=not dataset.get('ann_file'))
    # In every process: if one alone found an error, the others would wait for it.
    seen = []
    for loader in loaders:
        for dataset in labelled_datasets(cfg, [loader]):
            if registered(dataset.type, DATASETS, scope) is not ImageFolder:
                # That of the test is often that of validation.
                _check_content(dataset, cfg, loader, is_new=dataset not in seen)
                seen.append(dataset)
    check_classes(cfg, [*labelled_datasets(cfg, loaders)])
    by_loader = ((name, d) for name in loaders for d in labelled_datasets(cfg, [name]))
    check_heads(cfg, by_loader, scope)


def _kind(dataset: ConfigDict, scope: str | None) -> str:
    """The name of a data set's class."""
    kind = registered(dataset.type, DATASETS, scope)
    return getattr(kind, '__name__', str(dataset.type)).rpartition('.')[2]


def _required(dataset: ConfigDict, kind: str) -> Iterator[Path]:
    root = Path(dataset.get('data_root') or '').expanduser()
    if dataset.get('data_root'):
        yield root
    prefix = dataset.get('data_prefix') or {}
    folders = [prefix] if isinstance(prefix, str) else prefix.values()
    files = FILES.get(kind, ())
    parts = [dataset.get('ann_file'), *folders, *files]
    if kind.endswith('ImageNet') and not any(parts):
        parts.append(dataset.get('split'))
    yield from (root / part for part in parts if isinstance(part, str) and part)


def _check_readable(paths: Sequence[Path], walks: bool) -> None:
    """See that upstream's readers get through what there is.

    They follow links without end, and read lists as UTF-8 without a byte-order mark.
    """
    for path in paths:
        if path.is_dir() and walks and (circle := find_circle(str(path))):
            raise ValueError(
                f'{circle} leads back to a folder that it is in, so that reading '
                f'{path} would never end: remove the link'
            )
        if path.suffix == '.txt':
            check_encoding(str(path))


def _check_content(dataset: ConfigDict, cfg: Config, loader: str, is_new: bool) -> None:
    scope = cfg.get('default_scope')
    kind = registered(dataset.type, DATASETS, scope)
    has_maps = reads_maps(kind) and (dataset.get('data_prefix') or {}).get(
        'seg_map_path'
    )
    has_categories = dataset.get('ann_file') and reads_categories(kind)
    if has_maps or has_categories:
        built = build_unread(dataset, scope)
        if has_categories:
            check_annotations(cfg, loader, dataset, built)
        elif is_new:
            training = loader == 'train_dataloader'
            pipeline = dataset.get('pipeline', ())
            share = dataset.get('max_broken_share', MAX_BROKEN_SHARE)
            check_maps(built, pipeline, cfg, share, training=training)
