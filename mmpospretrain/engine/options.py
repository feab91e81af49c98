"""No ``--cfg-options`` is dropped: what an argument would override is an error."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

GONE = object()  # where a part of the config was taken away


@contextmanager
def options_kept(
    cfg: Config,
    options: Mapping[str, Any] | None,
    argument: str,
    may_go: tuple[str, ...] = (),
) -> Iterator[None]:
    """Let an argument of a tool change a config, but for what the options have set.

    Args:
        cfg: With the options in it; changed inside the ``with``.
        options: Dotted keys and values of ``--cfg-options``.
        argument: What changes the config, as the user knows it.
        may_go: Beginnings of keys whose part of the config may be taken away.

    Raises:
        ValueError: When the ``with`` is left, if an option has another value than
            before.
    """
    before = [leaf for key in options or {} for leaf in _leaves(key, _find(cfg, key))]
    yield
    for key, value in before:
        now = _find(cfg, key)
        if now == value or (now is GONE and key.startswith(may_go or (' ',))):
            continue
        becomes = 'takes its place away' if now is GONE else f'makes it {now!r}'
        raise ValueError(
            f'--cfg-options {key}={value} would be without effect: {argument} '
            f'{becomes}. Leave one of the two out'
        )


def _find(node: Any, dotted: str) -> Any:
    """The value at a dotted key."""
    for key in dotted.split('.'):
        if isinstance(node, list | tuple) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, Config | Mapping) and key in node:
            node = node[key]
        else:
            return GONE
    return node


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value, or those of a dict with their own keys."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(f'{key}.{name}', inner)
    else:
        yield key, value
