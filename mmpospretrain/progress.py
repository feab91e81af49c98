"""How far something is that takes its time."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich import progress
from rich.console import Console

SECONDS = 30  # between two lines where there is no terminal
T = TypeVar('T')


def track(
    steps: Iterable[T], title: str | None, total: int | None = None
) -> Iterator[T]:
    """Go through steps with a bar on stderr; in a log file, with a line now and then.

    Args:
        steps: What to go through.
        title: What is being done; nothing is shown without.
        total: Number of steps, if ``steps`` has no length.
    """
    console = Console(stderr=True)
    if title is None or console.is_terminal:
        yield from progress.track(
            steps,
            title or '',
            total,
            console=console,
            transient=True,
            disable=title is None,
        )
        return
    total = len(steps) if total is None else total
    last = time.monotonic()
    for number, step in enumerate(steps, start=1):
        yield step
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            print(f'{title}: {number} of {total}', file=sys.stderr, flush=True)
