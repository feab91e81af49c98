"""Annotations in COCO's format, looked at before a detector trains on them."""

import json
import mmap
import re
from itertools import zip_longest
from typing import BinaryIO

from .wording import YOUR_CLASSES, some


def reads_categories(kind: type | None) -> bool:
    """Whether a data set finds its classes by their names in a file of COCO's format.

    Relatives of COCO's with a reader of their own, as LVIS, may do otherwise.
    """
    if not hasattr(kind, 'COCOAPI'):
        return False
    from mmdet.datasets import CocoDataset  # slow, and here it has been imported

    return getattr(kind, 'load_data_list', None) is CocoDataset.load_data_list


def check_categories(path: str, metainfo: dict) -> None:
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
