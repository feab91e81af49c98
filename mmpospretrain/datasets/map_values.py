"""What the pixels of label maps are, and whether they are numbers of classes."""

import json
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import mmcv
import numpy as np
from mmengine.logging import print_log

from mmpospretrain.progress import track

from .broken_images import too_many
from .check_cache import remembered
from .image_headers import header
from .wording import YOUR_CLASSES, some

IGNORED = 255


@dataclass
class LabelMap:
    """What the file of a map holds."""

    path: str
    image_size: Sequence[int]  # (width, height) as it is trained; empty if unknown
    shape: Sequence[int]  # empty if the map cannot be read
    values: Sequence[float]  # sorted; none if there are channels
    error: str = ''


@dataclass
class Numbers:
    """Which pixel values stand for which class, as MMSegmentation reads them."""

    count: int | None  # of classes; None if nobody says
    ignored: int | None = IGNORED
    reduce_zero_label: bool = False
    label_map: dict[int, int] | None = None

    def label(self, value: float) -> int | None:
        """The label of a pixel; None if it is neither a class nor ignored."""
        if value not in range(256):
            return None
        label = int(value)
        if self.reduce_zero_label:
            label = IGNORED if label in (0, 255) else label - 1
        label = (self.label_map or {}).get(label, label)
        # A single output is trained by a sigmoid, with 0 and 1.
        fits = self.count is None or label < max(self.count, 2)
        return label if fits or label == self.ignored else None

    def is_class(self, value: float) -> bool:
        """Whether pixels of this value are trained."""
        return self.label(value) not in (None, self.ignored)

    def __str__(self) -> str:
        kept = [value for value in range(256) if self.is_class(value)]
        ignored = [value for value in range(256) if self.label(value) == self.ignored]
        numbers = f'{min(kept)} to {max(kept)}' if kept else 'none'
        return f'{numbers} for {self.count} classes; ignored: {some(ignored, 3)}'


def read_maps(
    pairs: Sequence[tuple[str, str]], backend: str = 'pillow', turned: bool = True
) -> list[LabelMap]:
    """Look into all maps, or remember what was in them.

    Args:
        pairs: Paths of images and their maps.
        backend: Of ``mmcv``, for the maps.
        turned: Whether images are turned upright by their EXIF tag.
    """
    look = partial(_look, backend=backend, turned=turned)

    def compute() -> list[list]:
        # Pillow and NumPy let other threads run meanwhile.
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            looked = pool.map(look, *zip(*pairs, strict=True))
            return [*track(looked, 'looking at the maps', len(pairs))]

    stats = [(path, os.stat(path)) for pair in pairs for path in pair]
    states = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    found = remembered(json.dumps([backend, turned, states]), compute)
    return [
        LabelMap(path, *facts) for (_, path), facts in zip(pairs, found, strict=True)
    ]


def _look(image_path: str, map_path: str, backend: str, turned: bool) -> list:
    """The facts of a `LabelMap`, but for its path."""
    found = header(image_path)
    size = found.size(turned) if found else []  # that is no matter of maps
    if not os.path.isfile(map_path):  # to open a FIFO may never end
        return [size, [], [], 'it is no regular file']
    content = Path(map_path).read_bytes()
    if not content:
        return [size, [], [], 'the file is empty']
    try:
        # As LoadAnnotations does, before it makes bytes of all numbers.
        pixels = mmcv.imfrombytes(content, flag='unchanged', backend=backend).squeeze()
    except Exception as error:  # Pillow's plugins raise nearly anything
        return [size, [], [], f'{type(error).__name__}: {error}']
    return [size, pixels.shape, _values(pixels) if pixels.ndim == 2 else [], '']


def _values(pixels: np.ndarray) -> list[float]:
    if pixels.dtype == bool:  # of one bit
        pixels = pixels.astype(np.uint8)
    if pixels.dtype == np.uint8:  # a fifth of the time of np.unique
        return np.flatnonzero(np.bincount(pixels.ravel())).tolist()
    # What is not a class is known by a few.
    return np.unique(pixels)[:1000].tolist()


def skip_unreadable(maps: Sequence[LabelMap], max_share: float) -> list[LabelMap]:
    """The maps that can be read; the others are skipped, as broken images are.

    Raises:
        ValueError: If these are more than a share of all, or all; names them.
    """
    relative, where = _in_one_folder(maps)
    broken = [f'{m.path} ({m.error})' for m in relative if m.error]
    if broken:
        what = f'{len(broken)} of the {where} cannot be read: {some(broken, 3)}. '
        everything = len(broken) == len(maps)
        if everything or too_many(len(broken), len(maps), max_share):
            raise ValueError(
                f'{what}Make them anew, or raise max_broken_share of the data set. See '
                f'{YOUR_CLASSES}.'
            )
        _warn(f'{what}They will be skipped.')
    return [label_map for label_map in maps if not label_map.error]


def _in_one_folder(maps: Sequence[LabelMap]) -> tuple[list[LabelMap], str]:
    """Maps with paths relative to their common folder, and how many are where."""
    folder = os.path.commonpath([os.path.dirname(label_map.path) for label_map in maps])
    relative = [replace(m, path=os.path.relpath(m.path, folder)) for m in maps]
    return relative, f'{len(maps)} maps in {folder}'


def judge_maps(
    maps: Sequence[LabelMap],
    numbers: Numbers,
    classes: Sequence[str] = (),
) -> None:
    """See that maps hold a number of a class for each pixel of their images.

    Args:
        maps: All of a data set that can be read.
        numbers: Which values are allowed.
        classes: Names of those of which a pixel is expected.

    Raises:
        ValueError: If not; names the files, what they have, and what is needed.
    """
    maps, where = _in_one_folder(maps)
    for wrong, what, way_out in (
        (_with_channels, 'are no maps of numbers', _INDICES),
        (_of_another_size, 'have another size than their images', _UPRIGHT),
    ):
        if found := [text for label_map in maps if (text := wrong(label_map))]:
            raise ValueError(
                f'{len(found)} of the {where} {what}: {some(found, 3)}. {way_out} See '
                f'{YOUR_CLASSES}.'
            )
    _check_values(maps, numbers, where)
    _check_something_left(maps, numbers, where)
    _tell_missing(maps, numbers, classes, where)


_INDICES = (
    'A map has one channel, and as value of each pixel the number of its class; a '
    'palette may colour it.'
)
_UPRIGHT = (
    'Images are turned by the orientation in their EXIF data before maps are laid over '
    'them.'
)


def _with_channels(label_map: LabelMap) -> str:
    if len(label_map.shape) == 2:
        return ''
    kinds = {2: 'grey with transparency', 3: 'colours', 4: 'colours with transparency'}
    kind = kinds.get(label_map.shape[-1] if len(label_map.shape) == 3 else 0, 'pixels')
    return f'{label_map.path} has {kind} of shape {tuple(label_map.shape)}'


def _of_another_size(label_map: LabelMap) -> str:
    height, width = label_map.shape
    if not label_map.image_size or tuple(label_map.image_size) == (width, height):
        return ''
    size = ' x '.join(map(str, label_map.image_size))
    return f'{label_map.path} is {width} x {height}, its image {size}'


def _check_values(maps: Sequence[LabelMap], numbers: Numbers, where: str) -> None:
    wrong = {
        label_map.path: values
        for label_map in maps
        if (values := [v for v in label_map.values if numbers.label(v) is None])
    }
    if wrong:
        found = [f'{path} has {some(values, 5)}' for path, values in wrong.items()]
        seen = sorted({value for label_map in maps for value in label_map.values})
        raise ValueError(
            f'{len(wrong)} of the {where} have pixels that are no number of a class: '
            f'{some(found, 3)}. Needed: {numbers}. {_hint(seen, numbers, wrong)}See '
            f'{YOUR_CLASSES}.'
        )


def _hint(seen: Sequence[float], numbers: Numbers, wrong: Iterable[str]) -> str:
    """What may have happened, from the values of all maps."""
    values = [value for value in seen if value != IGNORED]
    if seen[0] == 0 and len(seen) == 2:
        return f'Two classes need 0 and 1, not 0 and {seen[1]}. '
    if values[-1:] == [numbers.count] and not numbers.reduce_zero_label:
        if values[0] > 0:
            return 'reduce_zero_label=True in all data sets counts from 1. '
        return (
            'Is 0 the background? Name it first in metainfo.classes and count it in '
            'num_classes, or set reduce_zero_label=True in all data sets to ignore it. '
        )
    if any(path.lower().endswith(('.jpg', '.jpeg')) for path in wrong):
        return 'JPEG changes values: maps need PNG. '
    return ''


def _check_something_left(
    maps: Sequence[LabelMap], numbers: Numbers, where: str
) -> None:
    empty = [m.path for m in maps if not any(map(numbers.is_class, m.values))]
    if len(empty) == len(maps):
        raise ValueError(
            f'all pixels of the {where} are ignored: {maps[0].path} has '
            f'{some(maps[0].values, 5)}. Needed: {numbers}. See {YOUR_CLASSES}.'
        )
    seen = {value for label_map in maps for value in label_map.values}
    if seen == {0, IGNORED} and numbers.is_class(0) and numbers.count != 1:
        raise ValueError(
            f'the {where} have no values but 0 and {IGNORED}, and {IGNORED} is '
            'ignored: nothing but 0 would be trained. Two classes need 0 and 1. See '
            f'{YOUR_CLASSES}.'
        )
    if empty:
        _warn(f'{len(empty)} of the {where} have ignored pixels only: {some(empty, 3)}')


def _tell_missing(
    maps: Sequence[LabelMap], numbers: Numbers, classes: Sequence[str], where: str
) -> None:
    seen = {numbers.label(value) for label_map in maps for value in label_map.values}
    seen.discard(numbers.ignored)
    if len(seen) == 1 and numbers.count != 1:
        _warn(f'the {where} are of one class alone: {min(seen)}')
    elif lost := [name for label, name in enumerate(classes) if label not in seen]:
        _warn(
            f'{len(lost)} of the {len(classes)} classes have no pixel in the {where}: '
            f'{some(lost, 3)}'
        )


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
