"""Reading a file in COCO's format: as it is, and each object as MMDetection would."""

import gc
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

FAKE_MASK = [[0.0] * 4]
"""MMDetection, which wants polygons of three points, ignores an object with it."""


def read_coco(path: str) -> dict[str, Any]:
    """The content of a file, whatever its Unicode encoding, with or without a mark.

    Raises:
        ValueError: If it is not JSON, or has no list of images, annotations or
            categories with names.
    """
    with Console(stderr=True).status(f'reading {os.path.basename(path)}'):
        content = _parse(path)
    categories = content.get('categories') if isinstance(content, dict) else None
    if not _has_keys(categories, ('id', 'name')) or not categories:
        raise ValueError(
            f"{path} is not in COCO's format: it has no list of `categories`, each "
            'with an id and a name'
        )
    for part, keys in (('images', ('id', 'file_name')), ('annotations', ())):
        if not _has_keys(content.setdefault(part, []), keys):
            each = f', each with an {" and a ".join(keys)}' if keys else ''
            raise ValueError(f'{path}: `{part}` is not a list of objects{each}')
    return content


def _parse(path: str) -> Any:
    with open(path, 'rb') as file:
        data = file.read()
    collecting = gc.isenabled()
    gc.disable()  # a third of the time for a million objects
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f'{path} is not JSON: {error}') from error
    finally:
        if collecting:
            gc.enable()


def _has_keys(items: Any, keys: Sequence[str]) -> bool:
    return isinstance(items, list) and all(
        isinstance(item, dict) and item.keys() >= {*keys} for item in items
    )


def is_plain_utf8(path: str) -> bool:
    """Whether the COCO API, which knows no other encoding, can read a JSON file."""
    with open(path, 'rb') as file:
        return json.detect_encoding(file.read(4)) == 'utf-8'


def box_of(annotation: dict) -> tuple[float, float, float, float] | None:
    """Left, top, width and height; None unless they are finite numbers."""
    box = annotation.get('bbox')
    numbers = type(box) is list and len(box) == 4 and {*map(type, box)} <= {int, float}
    return tuple(box) if numbers and math.isfinite(sum(box)) else None


def area_of(annotation: dict) -> float:
    """The area that a file gives; 0 where it is none, and may be worked out."""
    area = annotation.get('area')
    return area if type(area) in (int, float) and area > 0 else 0


def has_mask(annotation: dict, image: dict, polygons_only: bool = False) -> bool:
    """Whether MMDetection can draw the mask of an object."""
    mask = annotation.get('segmentation')
    if isinstance(mask, list):
        for polygon in mask:  # any() takes twice the time
            if isinstance(polygon, list) and len(polygon) >= 6 and not len(polygon) % 2:
                return True
        return False
    if not isinstance(mask, dict) or polygons_only:
        return False
    size, counts = mask.get('size'), mask.get('counts')
    expected = [image.get('height'), image.get('width')]
    if not isinstance(size, list) or (None not in expected and size != expected):
        return False
    if isinstance(counts, list):
        return sum(counts) == size[0] * size[1]
    return isinstance(counts, str) and bool(counts)


def size_of(image: dict) -> tuple[int, int] | None:
    """Width and height that a file gives for an image."""
    size = image.get('width'), image.get('height')
    whole = all(type(side) in (int, float) and side > 0 for side in size)
    return size if whole else None


def repeated(items: Sequence[dict]) -> dict[Any, int]:
    """How often each id stands that stands more than once.

    Raises:
        TypeError: If an id is a list or an object.
    """
    counts = Counter(item['id'] for item in items if 'id' in item)
    return {key: number for key, number in counts.items() if number > 1}


def find(annotation: dict, key: str, table: dict) -> Any:
    """What an id of an annotation stands for; None if that is nothing."""
    value = annotation.get(key)
    return None if isinstance(value, list | dict) else table.get(value)
