"""What a user may point at: an image folder, a data set with splits, or a list file."""

import codecs
import os
import os.path as osp
import re
from collections import Counter
from collections.abc import Container, Iterable

from mmengine import fileio

from .image_files import EXTENSIONS, is_image, require_images, walk_files

MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
FILE_NAMES = 'surrogateescape'  # as Python takes bytes of file names that aren't UTF-8


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


def left_out(folder: str, used: Container[str]) -> Counter[str]:
    """Count, by ending, the images below a folder that a data set does not use.

    Args:
        folder: What the data set scans.
        used: Paths that it uses, beginning with ``folder``.
    """
    return Counter(
        osp.splitext(name)[1]
        for name in walk_files(folder)
        if is_image(name) and osp.join(folder, name) not in used
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


def check_encoding(path: str) -> None:
    """See that upstream's readers, which know UTF-8 alone, can read a list file.

    They take a byte-order mark for the beginning of the first name.

    Raises:
        ValueError: If they cannot; names the line.
    """
    data = fileio.get(path)
    if data.startswith(MARKS):
        raise ValueError(
            f'{path} begins with a byte-order mark, which would be taken for a part of '
            'the first name: save it as UTF-8 without'
        )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        number = data.count(b'\n', 0, error.start)
        line = data.split(b'\n')[number].decode(errors='backslashreplace').strip()
        raise ValueError(
            f'line {number + 1} of {path} is not UTF-8: {line}. Save the list as '
            'UTF-8, and rename files whose names are not'
        ) from error


def read_list(path: str) -> list[tuple[str, int | None]]:
    """Entries of a list file: image path and label (None if there is none).

    An integer after the last blank is a label; other blanks belong to the name, as in
    ``holiday 2.jpg`` and ``holiday 2.jpg 7``. A name may stand in double quotes, and
    begin with ``~/``. Empty lines are skipped. The text is UTF-8, or what its
    byte-order mark says; bytes that are not are those of a file's name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no text file, or names no image.
    """
    data = fileio.get(path)
    utf16 = data.startswith(MARKS[1:])
    encoding, errors = ('utf-16', 'strict') if utf16 else ('utf-8-sig', FILE_NAMES)
    try:
        text = data.decode(encoding, errors)
    except UnicodeDecodeError:
        text = '\0'
    if re.search(r'[\0-\x08\x0e-\x1f]', text):  # which an archive or an image has
        raise ValueError(f'{path} is no text file with a path per line')
    entries = []
    for line in filter(None, map(str.strip, re.split(r'[\r\n]', text))):
        name, label = re.fullmatch(r'(.*?\S)(?:\s+(-?\d+))?', line).groups()
        if quoted := re.fullmatch(r'"(.+)"', name):
            name = quoted[1]
        if name.startswith('~/'):
            name = osp.expanduser(name)
        entries.append((name, int(label) if label else None))
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
        ValueError: If there is no image, or ``path`` is a FIFO or a device.
    """
    path = osp.abspath(osp.expanduser(path))
    if not osp.exists(path):
        raise FileNotFoundError(f'no such image folder or list file: {path}')
    if osp.isfile(path):
        return _resolve_list(path), None
    if not osp.isdir(path):
        raise ValueError(f'{path} is neither a folder nor a regular file')
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
    if not osp.exists(first):
        raise FileNotFoundError(
            f'the first entry of {path} does not exist: {first}. Paths in a list are '
            "absolute or relative to the list's folder"
        )
    if not osp.isfile(first):
        raise ValueError(
            f'the first entry of {path} is no file: {first}. A list names images, one '
            'in each line; give a folder by itself'
        )
    return {'data_root': root, 'data_prefix': '', 'ann_file': name}
