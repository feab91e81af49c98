"""What a pickled checkpoint may hold beside tensors: what MMEngine puts there.

``torch.load(weights_only=True)`` calls what is listed here, with any arguments. So
NumPy's and MMEngine's own functions are not: a dtype out of a pickle can declare bytes
to be addresses of Python objects, ``getattr`` reaches everything, and a
`HistoryBuffer` replaces functions of all others. In their places stand functions that
take what an honest file asks of them, and refuse the rest.
"""

import re
from argparse import Namespace
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

# Numbers, truth values, text and lists of objects; no records, no dates.
CODE = re.compile(r'[biufcSUO]\d*')
_scalar = np.float64(0).__reduce__()[0]


class _Kind:
    """Stands in for `np.dtype`."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not (isinstance(code, str) and CODE.fullmatch(code)):
            raise UnpicklingError(f'GLOBAL numpy.dtype of {code!r}')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        """Take the order of bytes; the rest of the state repeats the code."""
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stands in for `np.ndarray`; with the dtype genuine, NumPy checks the content."""

    def __new__(cls, *_: Any) -> '_Array':
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, content = state
        super().__setstate__((1, shape, _dtype_of(kind), by_columns, content))

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Go into the next file as the plain array that it is."""
        return np.array(self).__reduce_ex__(protocol)


def _numpy_scalar(kind: _Kind, content: bytes) -> np.generic:
    dtype = _dtype_of(kind)
    if dtype.hasobject:
        raise UnpicklingError('GLOBAL numpy.object_')
    return _scalar(dtype, content)


def _dtype_of(kind: Any) -> np.dtype:
    if not isinstance(kind, _Kind):
        raise UnpicklingError(f'an array of {kind!r}')
    return kind.dtype


class _History(HistoryBuffer):
    """Stands in for `HistoryBuffer`, and becomes one without foreign statistics."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._set_default_statistics()
        self.max_length = int(state['max_length'])
        self._log_history = np.array(state['_log_history'])
        self._count_history = np.array(state['_count_history'])
        self.__class__ = HistoryBuffer


def _history_statistic(owner: Any, name: Any) -> str:
    """Stands in for the ``getattr`` by which a `HistoryBuffer` finds ``mean``."""
    if owner is not _History or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError(f'GLOBAL builtins.getattr for {owner!r}, {name!r}')
    return name


def _no_bytes() -> bytes:
    """Stands in for `bytes`, by which the content of an empty array is pickled."""
    return b''


def numpy_globals() -> list[tuple[Any, str]]:
    """What stands in for what of NumPy's, and of Python's for it."""
    return [
        (_no_bytes, 'builtins.bytes'),
        (_Array, 'numpy.ndarray'),
        (_Kind, 'numpy.dtype'),
        # NumPy 1 and 2 read each other's files, though the module has moved.
        *(
            (stand_in, f'numpy.{core}.multiarray.{name}')
            for name, stand_in in (('_reconstruct', _Array), ('scalar', _numpy_scalar))
            for core in ('core', '_core')
        ),
    ]


def safe_globals() -> list:
    """For `torch.serialization.safe_globals`: what stands in, and for which name."""
    return [
        Namespace,  # MAE and DINO, and who builds on them, save their arguments
        (_history_statistic, 'builtins.getattr'),
        (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
        *numpy_globals(),
    ]
