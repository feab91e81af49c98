"""What a user may point at: an image folder, a data set with splits, or a list file."""

import os
import os.path as osp
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence

from mmengine import fileio
from PIL import Image

EXTENSIONS = (
    '.jpg',
    '.jpeg',
    '.png',
    '.webp',
    '.bmp',
    '.ppm',
    '.pgm',
    '.tif',
    '.tiff',
)


def is_image(name: str, extensions: Sequence[str] = EXTENSIONS) -> bool:
    """Whether a path within a folder is an image, and nothing on it is hidden."""
    hidden = any(part.startswith('.') for part in name.split(os.sep))
    return not hidden and name.lower().endswith(tuple(extensions))


def missing(
    what: object, kind: str, layout: str | None = None, hint: str = ''
) -> FileNotFoundError:
    """The error of a data set of some kind that lacks something.

    Args:
        what: Path, or another name of what there is not.
        kind: The data set's type, without prefix.
        layout: What it should look like.
        hint: A sentence more.
    """
    expected = f' Expected:\n{layout}' if layout else ''
    return FileNotFoundError(
        f'there is no {what}, which {kind} needs.{hint} Give another DIR with --data.'
        f'{expected}'
    )


def require_images(folder: str, extensions: Sequence[str] = EXTENSIONS) -> None:
    """Raise FileNotFoundError or ValueError unless ``folder`` holds an image."""
    if not fileio.isdir(folder):
        raise FileNotFoundError(f'image folder does not exist: {folder}')
    others = Counter()
    for name in fileio.list_dir_or_file(folder, list_dir=False, recursive=True):
        if is_image(name, extensions):
            return
        others[osp.splitext(name)[1] or 'no extension'] += 1
    endings = ' '.join(sorted(extensions))
    if not others:
        raise ValueError(
            f'no image in {folder}: the folder is empty, but for what is hidden. '
            f'Images end in {endings}'
        )
    kinds = ', '.join(f'{count} × {kind}' for kind, count in others.most_common(5))
    files = 'file' if others.total() == 1 else 'files'
    raise ValueError(
        f'no image in {folder}: saw {others.total()} other {files} ({kinds}), at any '
        f'depth, but none that ends in {endings}'
    )


def left_out(folder: str, used: Container[str]) -> Counter[str]:
    """Count, by ending, the images below a folder that a data set does not use.

    Args:
        folder: What the data set scans.
        used: Paths that it uses, beginning with ``folder``.
    """
    endings = Image.registered_extensions()
    return Counter(
        osp.splitext(name)[1]
        for name in fileio.list_dir_or_file(folder, list_dir=False, recursive=True)
        if is_image(name, endings) and osp.join(folder, name) not in used
    )


def absent(paths: Iterable[str]) -> list[str]:
    """Those of some paths where there is nothing; each folder is listed once."""
    there: dict[str, set[str]] = {}
    lost = []
    for path in paths:
        folder, name = osp.split(path)
        if folder not in there:
            there[folder] = {*os.listdir(folder)} if osp.isdir(folder) else set()
        if name not in there[folder]:
            lost.append(path)
    return lost


def read_list(path: str) -> list[tuple[str, int | None]]:
    """Entries of a list file: image path and label (None if there is none).

    An integer after the last blank is a label; other blanks belong to the name, as in
    ``holiday 2.jpg`` and ``holiday 2.jpg 7``. Empty lines are skipped.

    Raises:
        ValueError: If the file is no text, or names no image.
    """
    try:
        lines = [line.strip() for line in fileio.list_from_file(path)]
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no text file with a path per line') from error
    entries = []
    for line in filter(None, lines):
        labelled = re.fullmatch(r'(.*\S)\s+(-?\d+)', line)
        entries.append((labelled[1], int(labelled[2])) if labelled else (line, None))
    if not entries:
        raise ValueError(f'list file {path} names no image: it has no line with a path')
    return entries


def resolve_image_source(path: str | os.PathLike) -> tuple[dict, dict | None]:
    """Turn a path into arguments of :class:`ImageFolder`, for training and validation.

    =================================  ======================  =============
    ``path``                           training                validation
    =================================  ======================  =============
    folder with ``train/``             everything in it        ``val/`` if any
    any other folder                   everything in it        None
    list file                          its entries, relative   None
                                       to the list's folder
    =================================  ======================  =============

    Returns:
        tuple[dict, dict | None]: ``data_root``, ``data_prefix`` and ``ann_file`` each.

    Raises:
        FileNotFoundError: If ``path``, or the first entry of a list, does not exist.
        ValueError: If there is no image.
    """
    path = osp.abspath(osp.expanduser(path))
    if not osp.exists(path):
        raise FileNotFoundError(f'no such image folder or list file: {path}')
    if osp.isfile(path):
        return _resolve_list(path), None
    splits = [osp.join(path, split) for split in ('train', 'val')]
    if not osp.isdir(splits[0]):
        return _resolve_folder(path), None
    train, val = (_resolve_folder(s) if osp.isdir(s) else None for s in splits)
    return train, val


def _resolve_folder(folder: str) -> dict:
    require_images(folder)
    return {'data_root': folder, 'data_prefix': '', 'ann_file': ''}


def _resolve_list(path: str) -> dict:
    if path.lower().endswith(EXTENSIONS):
        raise ValueError(f'{path} is an image: give its folder, or a list file')
    root, name = osp.split(path)
    first = osp.join(root, read_list(path)[0][0])
    if not osp.isfile(first):
        raise FileNotFoundError(
            f'the first entry of {path} does not exist: {first}. Paths in a list are '
            "absolute or relative to the list's folder"
        )
    return {'data_root': root, 'data_prefix': '', 'ann_file': name}
