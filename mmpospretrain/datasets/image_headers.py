"""Sizes of many images, from their headers alone."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import mmcv
from PIL import ExifTags, Image

from .check_cache import with_progress

SWAPPED = range(5, 9)
"""Orientations in EXIF that exchange width and height."""
T = TypeVar('T')


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

    def stamp(path: str) -> tuple[int, int]:
        try:
            found = os.stat(path)
        except (OSError, ValueError):  # a name that cannot be
            return -1, -1
        return found.st_size, found.st_mtime_ns

    return _in_threads(stamp, paths, 'looking for images')


def headers(paths: Sequence[str]) -> list[Header | None]:
    """Headers of images, in order; None where a file cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about pixels and tags that nobody asked for
        return _in_threads(_header, paths, 'reading sizes of images')


def _header(path: str) -> Header | None:
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


def _in_threads(act: Callable[[str], T], paths: Sequence[str], what: str) -> list[T]:
    def act_on(start: int) -> list[T]:
        return [act(path) for path in paths[start : start + size]]

    size = 200  # a task for each file would cost more than the files
    with ThreadPoolExecutor(16) as pool:
        starts = range(0, len(paths), size)
        parts: Iterator = pool.map(act_on, starts)
        return [
            item for part in with_progress(parts, len(starts), what) for item in part
        ]
