"""What long checks of data have found out, kept until the data change."""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from filelock import FileLock

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
