"""Whether what the zoo says of a model holds: config, file in the cache, addresses."""

from collections.abc import Iterator

import pooch
import requests
from mmengine.config import Config

from .fetch import cache_dir, recorded_sha256
from .loading import load_checkpoint_file
from .registry import Entry, get_model

TIMEOUT = 20  # seconds that a server may be silent


def verify(entry: Entry, offline: bool = False) -> tuple[list[str], list[str]]:
    """Check a model of the zoo.

    Args:
        entry: The model.
        offline: Whether to leave its servers alone. They are asked for headers only.

    Returns:
        What is right, and what is wrong, in words.
    """
    right, wrong = [], []
    checks = [check_config, check_file] + ([] if offline else [check_urls])
    for check in checks:
        try:
            right += check(entry)
        except (OSError, ValueError, SyntaxError, KeyError) as error:
            wrong.append(f'{error}')
    return right, wrong


def check_config(entry: Entry) -> Iterator[str]:
    """Whether its config can be read.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if entry.config:
        Config.fromfile(entry.config)
        yield 'config'


def check_file(entry: Entry) -> Iterator[str]:
    """Whether its file, if it is in the cache, is the right one, and can be read.

    Raises:
        ValueError: If it is not.
    """
    path = cache_dir() / (entry.filename or 'none')
    if not path.is_file():
        return
    expected = entry.sha256 or recorded_sha256(path)
    found = pooch.file_hash(str(path))
    if found != (expected or found):
        raise ValueError(f'{path} has SHA-256 {found}, not {expected}: delete it')
    if entry.format == 'mmpospretrain':
        get_model(entry.name, pretrained=path)
    else:
        load_checkpoint_file(path)
    yield f'file, sha256 {found[:8]}'


def check_urls(entry: Entry) -> Iterator[str]:
    """Whether there is something at its addresses.

    Raises:
        OSError: If there is not.
    """
    for url in entry.urls:
        requests.head(url, allow_redirects=True, timeout=TIMEOUT).raise_for_status()
        yield url
