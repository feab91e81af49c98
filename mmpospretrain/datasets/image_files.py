"""Which files are images, and where they are below a folder."""

import os
import os.path as osp
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from mmengine import fileio
from mmengine.fileio import LocalBackend
from PIL import Image

# Pillow knows their endings, but has no pixels of them to give: it needs Ghostscript,
# Windows or another program for some, and others are no pictures at all.
WITHOUT_PIXELS = {'BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'PALM', 'PDF', 'WMF'}

EXTENSIONS = tuple(
    sorted(
        ending
        for ending, kind in Image.registered_extensions().items()
        if kind not in WITHOUT_PIXELS
    )
)
"""Endings of Pillow's images, and of the plugins that are imported before."""


def is_image(name: str, extensions: Sequence[str] = EXTENSIONS) -> bool:
    """Whether a path within a folder is an image, and nothing on it is hidden."""
    hidden = any(part.startswith('.') for part in name.split(os.sep))
    return not hidden and name.lower().endswith(tuple(extensions))


def walk_files(folder: str) -> Iterator[str]:
    """Regular files at any depth, relative to ``folder``, without what is hidden.

    Links are followed, and each real folder is read once: by a path without links, if
    there is one. What is neither file nor folder, as a FIFO, is left out.

    Raises:
        ValueError: If a folder must not be read.
    """
    backend = fileio.get_file_backend(folder, enable_singleton=True)
    if not isinstance(backend, LocalBackend):
        yield from backend.list_dir_or_file(folder, list_dir=False, recursive=True)
        return
    seen, waiting = set(), deque([''])
    while waiting:
        here = waiting.popleft()
        path = osp.join(folder, here)
        try:
            stat = os.stat(path)
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            entries = [e for e in os.scandir(path) if not e.name.startswith('.')]
        except OSError as error:
            raise ValueError(f'cannot read the folder {path}: {error}') from error
        for entry in entries:
            name = osp.join(here, entry.name)
            linked = entry.is_symlink()  # maybe to itself, where is_file() would raise
            if osp.isfile(entry.path) if linked else entry.is_file():
                yield name
            elif osp.isdir(entry.path) if linked else entry.is_dir():
                (waiting.append if linked else waiting.appendleft)(name)


def list_images(
    folder: str, extensions: Sequence[str] = EXTENSIONS
) -> tuple[list[str], Counter[str]]:
    """Images at any depth, relative to ``folder`` and in order, and other files.

    Returns:
        The images, and how many files with other endings there are by ending.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there is no image in it, or a folder must not be read.
    """
    if not fileio.isdir(folder):
        raise FileNotFoundError(f'image folder does not exist: {folder}')
    images, others = [], Counter()
    for name in walk_files(folder):
        if is_image(name, extensions):
            images.append(name)
        else:
            others[osp.splitext(name)[1] or 'no extension'] += 1
    if images:
        return sorted(images), others
    endings = (
        'Images have an ending that Pillow reads, such as .jpg, .png or .webp'
        if set(extensions) == set(EXTENSIONS)
        else f'Images end in {" ".join(sorted(extensions))}'
    )
    if not others:
        raise ValueError(
            f'no image in {folder}: the folder is empty, but for what is hidden. '
            f'{endings}'
        )
    files = 'file' if others.total() == 1 else 'files'
    raise ValueError(
        f'no image in {folder}: saw {others.total()} other {files} '
        f'({count_endings(others)}), at any depth. {endings}'
    )


def count_endings(others: Counter[str]) -> str:
    """The five most frequent endings, as ``3 × .mp4, 1 × .txt``."""
    most = ', '.join(f'{count} × {ending}' for ending, count in others.most_common(5))
    return most + (', …' if len(others) > 5 else '')


def require_images(folder: str) -> None:
    """Raise as :func:`list_images`, and end at the first image."""
    if not fileio.isdir(folder) or not any(map(is_image, walk_files(folder))):
        list_images(folder)


def find_circle(folder: str, above: Sequence[str] = ()) -> str | None:
    """A path below ``folder`` that leads back to a folder it has passed, if any."""
    real = osp.realpath(folder)
    if real in above:
        return folder
    with os.scandir(folder) as entries:
        folders = [entry.path for entry in entries if osp.isdir(entry.path)]
    circles = (find_circle(path, (*above, real)) for path in folders)
    return next(filter(None, circles), None)
