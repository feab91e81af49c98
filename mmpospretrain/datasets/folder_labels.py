"""Labels of a classification, by folders or a list, looked at before it trains."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import mmpretrain.datasets as upstream
from mmengine import fileio
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from PIL import Image

from mmpospretrain.registry import registered

from .class_folders import (
    VisibleFolders,
    check_folder_names,
    check_same_names,
    class_folders,
)
from .image_folder import ImageFolder
from .image_source import absent, check_encoding
from .unread import build_unread
from .wording import YOUR_CLASSES, some

WITHOUT_HIDDEN = {
    upstream.CustomDataset: 'mmpospretrain.CustomDataset',
    upstream.ImageNet: 'mmpospretrain.ImageNet',
}
ORDER = 'Folders number the classes in sorted order, capitals first.'


@dataclass
class Folders:
    """What is below the folder of a data set; hidden files of MMEngine's aside."""

    names: list[str]  # of classes, sorted
    images: Counter[str] = field(default_factory=Counter)  # by class
    others: Counter[str] = field(default_factory=Counter)  # images left out, by ending
    hidden: list[str] = field(default_factory=list)


def check_classes(cfg: Config, datasets: Sequence[ConfigDict]) -> None:
    """See that MMPretrain numbers the classes of all data sets alike.

    Only those are looked at that have a folder for each class, or a list of files and
    labels, and MMPretrain's reader or ours. A data set with hidden folders becomes one
    that does not count them as classes.

    Args:
        cfg: The whole config; the head's ``num_classes`` counts where no class is
            named.
        datasets: Configs, that of the training first.

    Raises:
        FileNotFoundError: If images of a list are missing.
        ValueError: If names, numbers or the order of classes differ, or there is no
            image.
    """
    head = cfg.get('model', {}).get('head') or {}
    outputs = head.get('num_classes') if isinstance(head, dict) else None
    first: tuple[str, list[str]] | None = None
    looked: dict[tuple, Folders] = {}
    for dataset in datasets:
        built = _build(dataset, cfg.get('default_scope'))
        if built is None:
            continue
        if built.ann_file:
            _check_list(built, len(built.CLASSES or ()) or outputs)
            continue
        root = built.img_prefix
        key = (root, built.extensions)
        is_new = key not in looked  # that of the test is often that of validation
        if is_new:
            looked[key] = _look(root, built.extensions)
            _tell(root, looked[key], built.extensions)
        folders = looked[key]
        _leave_out_hidden(dataset, type(built), root, folders.hidden)
        try:
            check_folder_names(root, folders.names, built.CLASSES or folders.names)
            if first:
                check_same_names(folders.names, first[1], root, first[0])
        except ValueError as error:
            raise ValueError(f'{error}. {ORDER} See {YOUR_CLASSES}.') from None
        first = first or (root, folders.names)
        named = {**(dataset.get('metainfo') or {}), **dataset}.get('classes') or ()
        if is_new and named and not {*folders.names} & {*built.CLASSES}:
            pairs = zip(folders.names, built.CLASSES, strict=True)
            pairs = [f'{folder} is {name!r}' for folder, name in pairs]
            _warn(
                f'folders in {root} are called otherwise than their classes: '
                f'{some(pairs, 3)}'
            )


def _build(dataset: ConfigDict, scope: str | None) -> BaseDataset | None:
    """A data set that is not initialized; None if its labels are found otherwise."""
    kind = registered(dataset.type, DATASETS, scope)
    readers = (upstream.CustomDataset, ImageFolder)
    if getattr(kind, 'load_data_list', None) not in [r.load_data_list for r in readers]:
        return None
    finders = (upstream.CustomDataset, VisibleFolders, ImageFolder)
    if kind._find_samples not in [finder._find_samples for finder in finders]:
        return None
    built = build_unread(dataset, scope)
    there = os.path.isdir(built.img_prefix) or os.path.isfile(built.ann_file)
    return built if built.with_label and there else None


def _look(root: str, extensions: tuple[str, ...]) -> Folders:
    folders = Folders(class_folders(root))
    endings = tuple(Image.registered_extensions())
    everything = fileio.list_dir_or_file(root, list_file=False)
    hidden = {name for name in everything if name.startswith('.')}
    for name in fileio.list_dir_or_file(root, list_dir=False, recursive=True):
        parts = name.split(os.sep)
        lower = name.lower()
        if any(part.startswith('.') for part in parts[:-1]):
            hidden.add(os.path.dirname(name))
        elif lower.endswith(extensions) and len(parts) > 1:
            folders.images[parts[0]] += 1
        elif lower.endswith(endings):
            folders.others[os.path.splitext(name)[1]] += 1
    folders.hidden = sorted(hidden)
    return folders


def _tell(root: str, folders: Folders, extensions: Sequence[str]) -> None:
    if not folders.names:
        raise ValueError(
            f'{root} has no folders: it needs one for each class, such as '
            'DIR/n01440764/image.jpg, or a list in ann_file'
        )
    endings = ' '.join(sorted(extensions))
    kinds = ', '.join(f'{number} × {kind}' for kind, number in folders.others.items())
    if not folders.images:
        others = f' There are {kinds}.' if kinds else ''
        raise ValueError(
            f'no image in the {len(folders.names)} folders of classes in {root}; '
            f'images end in {endings}.{others}'
        )
    if kinds:
        _warn(
            f'{kinds} in {root} left out: images lie in the folder of their class and '
            f'end in {endings}'
        )
    if empty := [name for name in folders.names if not folders.images[name]]:
        _warn(
            f'{len(empty)} of the {len(folders.names)} folders of classes in {root} '
            f'have no image: {some(empty, 3)}'
        )


def _leave_out_hidden(
    dataset: ConfigDict, kind: type, root: str, hidden: Sequence[str]
) -> None:
    if not hidden:
        return
    if kind in WITHOUT_HIDDEN:
        dataset.type = WITHOUT_HIDDEN[kind]
    elif not issubclass(kind, VisibleFolders):
        raise ValueError(
            f'{kind.__name__} would count hidden folders in {root}: {some(hidden, 3)}. '
            'Remove them'
        )
    print_log(
        f'hidden folders in {root} do not count: {some(hidden, 3)}', logger='current'
    )


def _check_list(dataset: BaseDataset, count: int | None) -> None:
    path = dataset.ann_file
    if not isinstance(dataset, ImageFolder):  # which reads its lists itself
        _check_lines(path)
    dataset.full_init()
    samples = dataset.data_list
    labels = Counter(sample['gt_label'] for sample in samples)
    wrong = sorted(v for v in labels if v < 0 or (count is not None and v >= count))
    if wrong:
        number = sum(labels[label] for label in wrong)
        from_1 = count in wrong and min(labels) == 1
        raise ValueError(
            f'{number} of the {len(samples)} labels in {path} are none of {count} '
            f'classes, 0 to {(count or 0) - 1}: {some(wrong, 5)}.'
            f'{" They seem to begin at 1." if from_1 else ""} See {YOUR_CLASSES}.'
        )
    if lost := absent([sample['img_path'] for sample in samples]):
        raise FileNotFoundError(
            f'{len(lost)} of the {len(samples)} images that {path} names are missing: '
            f'{some(lost, 3)}'
        )
    if unseen := [label for label in range(count or 0) if label not in labels]:
        _warn(
            f'{len(unseen)} of the {count} classes have no image in {path}: '
            f'{some(unseen, 3)}'
        )


def _check_lines(path: str) -> None:
    """See that each line is a path, a blank and a number, for MMPretrain."""
    check_encoding(path)
    for number, line in enumerate(fileio.list_from_file(path), start=1):
        name, _, label = line.strip().rpartition(' ')
        if not name or not label.removeprefix('-').isdecimal():
            raise ValueError(
                f'line {number} of {path} is no path, blank and number of a class: '
                f'{line!r}'
            )


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
