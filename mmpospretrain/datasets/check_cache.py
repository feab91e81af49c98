"""What long checks of data have found out, kept until the data change."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

from filelock import FileLock
from rich.console import Console
from rich.progress import Progress

from mmpospretrain.cache import cache_dir
from mmpospretrain.version import __version__


def remembered(key: str, compute: Callable[[], Any]) -> Any:
    """The result of ``compute``, or that of an earlier run with the same key.

    Processes that ask at once, as the ranks of a training do, wait for the first.
    Where nothing can be written, nothing is kept.

    Args:
        key: All that the result depends on, files by path, size and time.
        compute: Returns something that JSON can hold; what it raises is not kept.
    """
    digest = hashlib.sha256(f'{__version__}\n{key}'.encode(errors='surrogateescape'))
    path = cache_dir() / 'checks' / f'{digest.hexdigest()[:32]}.json'
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix('.lock')))
        except OSError:
            return compute()
        with suppress(OSError, ValueError):
            return json.loads(path.read_bytes())
        result = compute()
        with suppress(OSError):
            partial = path.with_suffix('.part')
            partial.write_text(json.dumps(result))
            partial.replace(path)
        return result


def with_progress(
    items: Iterable, total: int, what: str, seconds: float = 5.0
) -> Iterator:
    """Hand the items on, with a bar once they have taken some seconds."""
    began = time.monotonic()
    with ExitStack() as stack:
        bar = None
        for done, item in enumerate(items, start=1):
            if bar is None and time.monotonic() - began > seconds:
                bar = stack.enter_context(Progress(console=Console(stderr=True)))
                task = bar.add_task(what, total=total)
            if bar is not None:
                bar.update(task, completed=done)
            yield item
