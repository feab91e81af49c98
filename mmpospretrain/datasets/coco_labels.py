"""Annotations in COCO's format, looked at before a detector trains on them."""

import hashlib
import logging
import os
from functools import cache, partial
from itertools import zip_longest
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from .broken_images import too_many
from .check_cache import remembered
from .coco_completion import BACKEND
from .coco_file import is_plain_utf8, read_coco, repeated, size_of
from .coco_objects import ObjectCount, count_objects
from .coco_use import Use, evaluators, use_of
from .image_headers import Header, headers, stamps
from .image_source import missing
from .wording import YOUR_CLASSES, some


def reads_categories(kind: type | None) -> bool:
    """Whether a data set finds its classes by their names in a file of COCO's format.

    Relatives of COCO's with a reader of their own, as LVIS, may do otherwise.
    """
    if not hasattr(kind, 'COCOAPI'):
        return False
    from mmdet.datasets import CocoDataset  # slow, and here it has been imported

    return getattr(kind, 'load_data_list', None) is CocoDataset.load_data_list


def check_annotations(
    cfg: Config, loader: str, dataset: ConfigDict, built: BaseDataset
) -> None:
    """Check a data set of a config; where its file has gaps, have them filled.

    Args:
        cfg: A whole config. A file that can be completed gets ``backend_args`` that do
            so, in the data set and in the metrics of its loader.
        loader: Name of the loader that reads the data set.
        dataset: The data set, out of its wrappers.
        built: The same, that has read nothing yet.

    Raises:
        FileNotFoundError: If images, or the annotations of a metric, are missing.
        ValueError: If nothing is left to train on, or labels would go astray.
    """
    metrics = [m for m in evaluators(cfg, loader) if m.get('ann_file')]
    for metric in metrics:
        if '://' not in metric.ann_file and not os.path.exists(metric.ann_file):
            raise missing(metric.ann_file, f'{metric.type} of {loader}')
    if completion := check_coco(built, use_of(cfg, loader, dataset)):
        dataset.backend_args = completion
        for metric in metrics:
            if os.path.realpath(metric.ann_file) == os.path.realpath(built.ann_file):
                metric.backend_args = completion


def check_coco(dataset: BaseDataset, use: Use) -> dict[str, Any] | None:
    """See that images and objects are what a detector can be trained on.

    What was found out is kept in the cache until the files change.

    Args:
        dataset: A ``CocoDataset`` that has read nothing yet.
        use: What its loader does with the file.

    Returns:
        The ``backend_args`` that complete the file where it has gaps, else None.

    Raises:
        FileNotFoundError: If images are missing.
        ValueError: If nothing is left to train on, or labels would go astray.
    """
    path, folder = dataset.ann_file, dataset.data_prefix.get('img', '')
    options = dataset.filter_cfg, dataset._indices, dataset.test_mode, dataset.metainfo
    key = repr((os.path.abspath(path), stamps([path]), folder, options, use))
    content = cache(partial(read_coco, path))
    names = remembered(
        f'images of {key}',
        lambda: [image['file_name'] for image in _used_images(dataset, content())],
    )
    paths = (
        [os.path.join(folder, name) for name in names] if use.looks_at_images else []
    )
    times = stamps(paths)
    state = hashlib.sha256(repr((paths, times)).encode()).hexdigest()
    if lost := [path for path, time in zip(paths, times, strict=True) if time[0] < 0]:
        raise FileNotFoundError(
            f'{len(lost)} of the {len(paths)} images of {path} are missing: '
            f'{some(lost, 3)}. Give another DIR with --data, correct '
            'data_prefix=dict(img=…) of the data set, or take them out of the file.'
        )
    verdict = remembered(
        f'objects of {key} {state}',
        lambda: _judge(dataset, content(), paths, use),
    )
    for level, note in verdict['notes']:
        _say(level, note)
    return verdict['completion']


@cache  # a test reads what a validation has read
def _say(level: int, note: str) -> None:
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        print_log(note, logger='current', level=level)


def _used_images(dataset: BaseDataset, content: dict) -> list[dict]:
    """The images that a data set would read, as MMDetection filters them."""
    path = dataset.ann_file
    check_categories(
        path, dataset.metainfo, [item['name'] for item in content['categories']]
    )
    for part in ('categories', 'images', 'annotations'):
        if again := repeated(content[part]):
            shown = [f'{key} ({number} times)' for key, number in again.items()]
            raise ValueError(
                f'{path}: ids must be unique, but in `{part}` these are not: '
                f'{some(shown, 3)}. Number them anew.'
            )
    images = all_images = content['images']
    rules = dataset.filter_cfg or {}
    if rules and not dataset.test_mode:
        names = dataset.metainfo['classes']
        ours = {item['id'] for item in content['categories'] if item['name'] in names}
        labelled = {
            annotation.get('image_id')
            for annotation in content['annotations']
            if annotation.get('category_id') in ours
        }
        empty = [image for image in all_images if image['id'] not in labelled]
        if not rules.get('filter_empty_gt', False):
            empty = []
        side = rules.get('min_size', 0)
        small = [image for image in all_images if min(size_of(image) or [side]) < side]
        out = {image['id'] for image in [*empty, *small]}
        images = [image for image in all_images if image['id'] not in out]
        if all_images and not images:
            raise ValueError(
                f'{path}: every image is filtered out. Of {len(all_images)} images '
                f'{len(empty)} have no object of the classes {some(names, 5)} '
                f'(filter_cfg.filter_empty_gt), and {len(small)} have a side under '
                f'{side} pixels (filter_cfg.min_size).'
            )
    if not images:
        raise ValueError(f'{path} names no images: `images` is empty')
    indices = dataset._indices
    if isinstance(indices, int):
        return images[:indices] if indices >= 0 else images[indices:]
    return images if indices is None else [images[index] for index in indices]


def _judge(
    dataset: BaseDataset, content: dict, paths: list[str], use: Use
) -> dict[str, Any]:
    """Notes, each with its level, and the completion that a file needs."""
    path, images = dataset.ann_file, _used_images(dataset, content)
    sizes = {image['id']: size_of(image) for image in images}
    notes = []
    if paths:
        found = headers(paths)
        if broken := [p for p, header in zip(paths, found, strict=True) if not header]:
            what = (
                f'{len(broken)} of the {len(paths)} images of {path} cannot be read: '
                f'{some(broken, 3)}.'
            )
            if too_many(len(broken), len(paths), use.max_broken_share):
                raise ValueError(
                    f'{what} Mend them, take them out of the file, or raise '
                    'max_broken_share of the data set.'
                )
            notes.append((logging.WARNING, f'{what} They will be skipped.'))
        notes += _compare_sizes(path, images, found, use.turned)
        read = {
            image['id']: header.size(use.turned)
            for image, header in zip(images, found, strict=True)
            if header
        }
        sizes = {key: size or read.get(key) for key, size in sizes.items()}
    count = count_objects(content, dataset.metainfo['classes'], sizes, use)
    if note := _note_on_objects(path, count, use):
        notes.append((logging.WARNING if count.faults else logging.INFO, note))
    gaps = dict(count.gaps)
    if unsized := sum(not size_of(image) for image in content['images']):
        gaps['sizes of images, from their files'] = unsized
        if not paths:
            raise ValueError(
                f'{path}: {unsized} of {len(images)} images have no width and height'
            )
    if not is_plain_utf8(path):
        gaps['UTF-8 without a byte-order mark'] = 1
    if not gaps:
        return dict(notes=notes, completion=None)
    what = ', '.join(f'{name} ({number} ×)' for name, number in gaps.items())
    notes.append((logging.INFO, f'{path} is completed when it is read: {what}'))
    folder = dataset.data_prefix.get('img', '')
    relative = os.path.relpath(folder or '.', os.path.dirname(path) or '.')
    completion = dict(backend=BACKEND, images=relative)
    completion.update({} if use.turned else dict(turned=False))
    completion.update(dict(masks=use.masks) if use.masks else {})
    return dict(notes=notes, completion=completion)


def _compare_sizes(
    path: str, images: list[dict], found: list[Header | None], turned: bool
) -> list[tuple[int, str]]:
    """Notes on images that are nearly as large as a file says.

    Raises:
        ValueError: If others are read in another size: their boxes would lie elsewhere.
    """
    by_exif, others, nearly = [], [], []
    for image, header in zip(images, found, strict=True):
        if header is None or size_of(image) is None:
            continue
        said, read = size_of(image), header.size(turned)
        if said == read:
            continue
        text = '{} ({} × {} in the file, read as {} × {})'.format(
            image['file_name'], *said, *read
        )
        if header.swapped and said == header.size(not turned):
            by_exif.append(text)
        elif max(abs(said[0] - read[0]), abs(said[1] - read[1])) > 1:
            others.append(text)
        else:
            nearly.append(text)
    if by_exif:
        color_type = 'color_ignore_orientation' if turned else 'color'
        raise ValueError(
            f'{path} gives another width and height than {len(by_exif)} of '
            f'{len(images)} images have when they are read'
            f'{", turned by their EXIF orientation" if turned else ""}: '
            f'{some(by_exif, 3)}. Boxes would lie elsewhere. Write dict('
            f"type='LoadImageFromFile', color_type='{color_type}') into the pipelines "
            'of all loaders'
            f'{", or save the images without EXIF as they were annotated" * turned}.'
        )
    if others:
        raise ValueError(
            f'{path} gives another width and height than {len(others)} of '
            f'{len(images)} images have: {some(others, 3)}. Boxes would lie elsewhere. '
            'Take the images that were annotated, or correct the file.'
        )
    if nearly:
        note = f'{path}: {len(nearly)} images are a pixel larger or smaller'
        return [(logging.WARNING, f'{note}: {some(nearly, 3)}')]
    return []


def _note_on_objects(path: str, count: ObjectCount, use: Use) -> str:
    """How many objects are used, and why others are not; nothing if all are.

    Raises:
        ValueError: If none is, or their boxes are no boxes of COCO's.
    """
    reasons = '; '.join(
        f'{number} {reason} (annotation {", ".join(count.examples[reason])}'
        f'{", …" if number > 3 else ""})'
        for reason, number in count.reasons.most_common()
    )
    if not count.used and use.needs_objects:
        raise ValueError(
            f'{path} has no object to '
            f'{"train on" if use.training else "evaluate by"}: 0 of {count.total} '
            f'remain. {reasons or "`annotations` is empty"}.{count.advice}'
        )
    if count.advice:
        raise ValueError(f'{path}: {count.advice.strip()} {reasons}')
    return reasons and (
        f'{path}: {count.used} of {count.total} objects remain; {reasons}'
    )


def check_categories(path: str, metainfo: dict, names: list[str]) -> None:
    """See that MMDetection would number the categories of a file as the config does.

    Classes that only the config has do no harm at its end: the file has none of their
    objects. Categories that only the file has would be dropped without a word. From
    the names alone nobody can tell whether that is meant, so it must be said:
    ``metainfo=dict(classes=…, subset=True)``. Where each has some that the other lacks,
    they are of different data, and no subset.
    """
    classes = metainfo['classes']
    kept = [name for name in names if name in classes]
    lost = [name for name in names if name not in classes]
    others = [name for name in classes if name not in names]
    if lost and (others or not metainfo.get('subset')):
        raise ValueError(
            f'{path} has other classes than the config.\n'
            f'Only in the file: {some(lost)}\n'
            f'Only in the config: {some(others)}\n'
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
