"""Which options of a training are not those that its checkpoint was made with."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

# What a training depends on. The optimizer's own options and the schedules are compared
# as the checkpoint holds them, scaled and counted in iterations.
SECTIONS = (
    'model',
    'data_preprocessor',
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'auto_scale_lr',
    'custom_hooks',
    'randomness',
)
ELSEWHERE = ('optim_wrapper.optimizer', 'randomness.seed')
UNSET = object()


def option_changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each option that two configs do not share.

    ``init_cfg`` is left out: a resume brings its own weights.
    """
    return [
        said(path, before, after)
        for section in SECTIONS
        for path, before, after in differences(
            was.get(section, UNSET), now.get(section, UNSET), section
        )
        if not path.startswith(ELSEWHERE) and 'init_cfg' not in path.split('.')
    ]


def said(name: str, was: Any, now: Any) -> str:
    """What, was, is."""
    return f'{name} was {_short(was)}, is {_short(now)}'


def _short(value: Any) -> str:
    if value is UNSET:
        return 'not set'
    if isinstance(value, float):
        return f'{value:.6g}'
    return textwrap.shorten(repr(value), 100, placeholder=' ...')


def differences(was: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of whatever differs in nested options."""
    if repr(was) == repr(now):  # arrays are not to be compared with ==
        return
    if isinstance(was, dict) and isinstance(now, dict):
        pairs = [
            (key, was.get(key, UNSET), now.get(key, UNSET)) for key in {**was, **now}
        ]
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        pairs = [(i, *pair) for i, pair in enumerate(zip(was, now, strict=True))]
    else:
        yield path, was, now
        return
    for key, *values in pairs:
        yield from differences(*values, f'{path}.{key}')
