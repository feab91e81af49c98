"""Checks of options whose errors name the option, its range, and the value."""

from collections.abc import Iterable
from numbers import Real
from typing import Any


def check_choice(name: str, value: Any, choices: Iterable) -> None:
    """Raise a ValueError unless the option ``name`` is one of ``choices``."""
    choices = (*choices,)
    if value not in choices:
        raise ValueError(f'{name} must be one of {choices}, got {value!r}')


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise a ValueError unless the option ``name`` is a number from ``least`` on."""
    if not isinstance(value, Real) or not value >= least:
        raise ValueError(f'{name} must be at least {least}, got {value!r}')


def check_ratio(
    name: str, ratio: float, *, low_open: bool = False, closed: bool = False
) -> None:
    """Raise a ValueError unless the option ``name`` lies in [0, 1).

    Args:
        name: Name of the option, as the user knows it.
        ratio: Its value.
        low_open: Whether 0 is excluded.
        closed: Whether 1 is included.
    """
    inside = isinstance(ratio, Real) and 0 <= ratio <= 1
    if not inside or (ratio == 0 and low_open) or (ratio == 1 and not closed):
        raise ValueError(
            f'{name} must lie in {"(" if low_open else "["}0, 1'
            f'{"]" if closed else ")"}, got {ratio!r}'
        )
