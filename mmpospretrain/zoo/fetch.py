"""Files from the web, whole and verified, in one cache for all checkouts.

A file appears in the cache under its name only when all of it has arrived and its
SHA-256 is right. While it comes it is ``NAME.part``, from which a later attempt goes
on. Where the publisher gives no SHA-256, that of the first download is recorded in
``NAME.sha256`` and holds from then on. Processes that ask at once, as the ranks of a
training do, wait for the first of them.

Two environment variables: ``MMPOSPRETRAIN_CACHE``, the folder, and
``MMPOSPRETRAIN_MIRROR``, a URL or a folder that is asked for every file first. A copy
of a cache makes a mirror.
"""

import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pooch
from filelock import FileLock, Timeout
from mmengine.logging import print_log
from pooch.utils import unique_file_name

from mmpospretrain.cache import cache_dir

from .http_transfer import Transfer, TransferError, mark_of

# Endings of what lies in the cache beside a file.
OURS = ('damaged', 'lock', 'mark', 'part', 'sha256')
_NO_NAME = re.compile(rf'[\\:]|\.(?=({"|".join(OURS)})$)')


def check_file_name(source: str, name: Any) -> None:
    """Check that a name is that of a file in the cache, and of no other.

    Args:
        source: Where it is from, for the message.
        name: Without a folder.

    Raises:
        ValueError: It has one, on any system, or is hidden, or one of the cache's own.
    """
    if not (
        isinstance(name, str)
        and name.isprintable()
        and re.fullmatch(r'[^./\s][^/]*', name)
        and not _NO_NAME.search(name)
    ):
        raise ValueError(
            f'{source}: {name!r} names no file in the cache: give a name such as '
            f'vit.pth, without a folder, that ends in none of {", ".join(OURS)}'
        )


def fetch_url(url: str) -> Path:
    """`fetch` for a URL of which nothing else is known.

    The name in the cache begins with a hash of the URL: many a file on the web is
    called ``checkpoint.pth``.
    """
    return fetch([url], _NO_NAME.sub('_', unique_file_name(url)))


def fetch(
    urls: Sequence[str], name: str, sha256: str | None = None, timeout: float = 30.0
) -> Path:
    """The path of a file in the cache; it is fetched if it is not there, or not whole.

    If it is there and whole, nothing is written and no network is touched.

    Args:
        urls: Where the file is on the web; they are asked in turn, after the mirror.
        name: Of the file, in the cache and on the mirror.
        sha256: Of the file; None if unknown, then that of the first download counts.
        timeout: Seconds that a server may be silent.

    Raises:
        FileNotFoundError: No source gives the file; says for each why.
        ValueError: What a source gives has another SHA-256, the cache cannot be
            written, the mirror is neither a URL nor a folder, or the name or a URL is
            none.
    """
    check_file_name('the zoo', name)
    for url in urls:
        if not is_url(url):
            raise ValueError(f'{name}: {url!r} is no address on the web, https://…')
    path = cache_dir() / name
    sha256 = sha256 and sha256.lower()
    expected = sha256 or recorded_sha256(path)
    if expected and path.is_file() and _sha256_of(path) == expected:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f'{path}.lock')
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            print_log(f'{name}: another process fetches it, waiting', logger='current')
            held = lock.acquire()
        with held:
            _fill(path, _sources(urls, name), sha256, timeout)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(
            f'{name} cannot be written to the cache {path.parent} ({error}): make room '
            'or give another folder, MMPOSPRETRAIN_CACHE=FOLDER'
        ) from error
    return path


def is_url(address: Any) -> bool:
    """Whether it is an address on the web, and not a path on this machine."""
    return isinstance(address, str) and address.startswith(('http://', 'https://'))


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 that a file of the cache had when it was first fetched."""
    record = _record_of(path)
    text = record.read_text() if record.is_file() else ''
    found = re.match(r'[0-9a-f]{64}\b', text)
    return found[0] if found else None


def _record_of(path: Path) -> Path:
    return path.with_name(f'{path.name}.sha256')


def _sha256_of(path: Path) -> str:
    return pooch.file_hash(str(path))


def _sources(urls: Sequence[str], name: str) -> list[str]:
    """URLs, and paths on a mirror that is a folder, in the order to be asked."""
    mirror = os.environ.get('MMPOSPRETRAIN_MIRROR')
    if not mirror:
        return [*urls]
    if is_url(mirror):
        return [f'{mirror.rstrip("/")}/{quote(name)}', *urls]
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f'MMPOSPRETRAIN_MIRROR is {mirror!r}, which is neither a URL nor a folder: '
            'correct or unset it'
        )
    return [str(folder / name), *urls]


def _fill(
    path: Path, sources: Sequence[str], sha256: str | None, timeout: float
) -> None:
    """Put a verified file at ``path``; nobody else does so at the time."""
    expected = sha256 or recorded_sha256(path)
    part, damaged = (
        path.with_name(f'{path.name}.{end}') for end in ('part', 'damaged')
    )
    problems: list[Exception] = []
    if path.is_file():
        found = _sha256_of(path)
        if expected is None:
            _record(path, found, 'it was put into the cache by hand')
        if expected in (None, found):
            return
        path.replace(damaged)
        problems.append(ValueError(f'{path}: its SHA-256 is {found}, not {expected}'))
        _warn(f'{problems[-1]}; it is {damaged.name} from now on')
    for source in sources:
        try:
            _fetch_from(source, path, part, expected, timeout)
        except (TransferError, ValueError) as error:
            problems.append(type(error)(f'{source}: {error}'))
            _warn(f'{path.name} does not come from {problems[-1]}')
            continue
        if expected is None:
            _record(path, _sha256_of(path), f'{source} was its first source')
        for leftover in (damaged, part, mark_of(part)):  # of this source or another
            leftover.unlink(missing_ok=True)
        return
    raise _not_fetched(path, problems, bool(sources), recorded=not sha256)


def _not_fetched(
    path: Path, problems: Sequence[Exception], asked: bool, recorded: bool
) -> Exception:
    """All that went wrong, and what to do about it."""
    wrong = any(isinstance(problem, ValueError) for problem in problems)
    lines = [
        f'{path.name} was not fetched:',
        *map(str, problems or ['no address of it is known']),
    ]
    if asked and not wrong:
        lines.append('Run again, and it goes on from what has arrived.')
    lines.append(
        f'Fetch it with a browser and put it at {path}, or name a mirror of your own, '
        'MMPOSPRETRAIN_MIRROR=URL or FOLDER.'
    )
    if wrong and recorded:
        lines.append(
            'The SHA-256 is that of the first download: if the publisher has replaced '
            f'the file since, delete {_record_of(path)}.'
        )
    return (ValueError if wrong else FileNotFoundError)('\n'.join(lines))


def _fetch_from(
    source: str, path: Path, part: Path, expected: str | None, timeout: float
) -> None:
    """By pooch, which checks the SHA-256 and then moves the file to ``path``."""
    remote = is_url(source)
    pooch.create(
        path=path.parent,
        base_url='',
        registry={path.name: expected},
        urls={path.name: source},
    ).fetch(path.name, downloader=Transfer(part, timeout) if remote else _copy)


def _copy(source: str, output_file: str, pooch: Any) -> None:
    """A downloader for pooch, from a folder."""
    if not Path(source).is_file():
        raise TransferError('there is no such file')
    os.unlink(output_file)  # made by pooch, for its owner's eyes only
    shutil.copyfile(source, output_file)


def _record(path: Path, sha256: str, reason: str) -> None:
    record = _record_of(path)
    record.write_text(f'{sha256}  {path.name}\n')  # as sha256sum -c reads it
    print_log(
        f'{path.name}: its SHA-256 was not known ({reason}). It is {sha256}, recorded '
        f'in {record} and enforced from now on',
        logger='current',
    )


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
