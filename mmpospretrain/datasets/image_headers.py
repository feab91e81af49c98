"""Sizes of many images, from their headers alone."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import mmcv
from PIL import ExifTags, Image

from mmpospretrain.progress import track

SWAPPED = range(5, 9)
"""Orientations in EXIF that exchange width and height."""


class Header(NamedTuple):
    """Size of an image in its file, and whether EXIF exchanges width and height."""

    width: int
    height: int
    swapped: bool

    def size(self, turned: bool = True) -> tuple[int, int]:
        """Width and height as it is read, turned by EXIF or not."""
        size = self.width, self.height
        return size[::-1] if self.swapped and turned else size


def stamps(paths: Sequence[str]) -> list[tuple[int, int]]:
    """Size and time of files, which change with them; (-1, -1) where there is none."""
    return [*track(map(_stamp, paths), 'looking for images', len(paths))]


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # a name that cannot be
        return -1, -1
    return found.st_size, found.st_mtime_ns


def headers(paths: Sequence[str]) -> list[Header | None]:
    """Headers of images, in order; None where a file cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about pixels and tags that nobody asked for
        with ThreadPoolExecutor(8) as pool:
            # A task for each file would cost more than the file.
            parts = [paths[start : start + 200] for start in range(0, len(paths), 200)]
            found = pool.map(lambda part: [*map(header, part)], parts)
            found = track(found, 'reading sizes of images', len(parts))
            return [*chain.from_iterable(found)]


def header(path: str) -> Header | None:
    """The header of an image; None if the file cannot be read."""
    if not os.path.isfile(path):  # to open a FIFO may never end
        return None
    try:
        with Image.open(path) as image:
            width, height = image.size
            swapped = _orientation(image) in SWAPPED
            known = not swapped or image.format == 'JPEG'
    except Exception:  # Pillow's plugins raise nearly anything, of metadata, too
        known = False
    if known:
        return Header(width, height, swapped)
    # Of other formats OpenCV knows some orientations; what decides is what it does.
    try:
        stored, turned = (
            mmcv.imread(path, flag, backend='cv2').shape[1::-1]
            for flag in ('color_ignore_orientation', 'color')
        )
    except Exception:
        return None
    return Header(*stored, swapped=stored != turned)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # tags of a wrong type: OpenCV takes no notice
        return 1
