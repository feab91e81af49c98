"""YAML and pickles that MMEngine reads, as configs or annotations, run nothing either.

Its own handlers give both formats all of Python: a tag or an opcode calls any function.
"""

import io
import pickle
from collections import OrderedDict
from typing import Any

import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler

from .safe_pickle import numpy_globals

# C's where PyYAML was built with it, as in MMEngine.
_SafeLoader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
KINDS = {
    'collections.OrderedDict': OrderedDict,
    **{f'builtins.{kind.__name__}': kind for kind in (complex, frozenset, set)},
    **{name: stand_in for stand_in, name in numpy_globals()},
}


class _Loader(_SafeLoader):
    """Knows tuples, which MMEngine writes, beside YAML's own types."""

    def tuple_of(self, node: yaml.SequenceNode) -> tuple:
        return tuple(self.construct_sequence(node, deep=True))


_Loader.add_constructor('tag:yaml.org,2002:python/tuple', _Loader.tuple_of)


@register_handler(['yaml', 'yml'])
class SafeYamlHandler(YamlHandler):
    """MMEngine's handler, without tags that name anything of Python but tuples."""

    def load_from_fileobj(self, file: io.IOBase, **kwargs: Any) -> Any:
        """Read plain values.

        Raises:
            ValueError: It is no YAML, or asks for more.
        """
        try:
            return yaml.load(file, **{'Loader': _Loader, **kwargs})
        except yaml.YAMLError as error:
            name = getattr(file, 'name', 'a file')
            raise ValueError(f'{name} is no YAML of plain values: {error}') from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Find what is harmless."""
        path = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
        if path == '_codecs.encode':  # by which Python 2 and 3 exchange bytes
            return _encode
        if path not in KINDS:
            raise pickle.UnpicklingError(
                f'it asks for {path}, which was not executed. If you trust its source, '
                'write it as JSON'
            )
        return KINDS[path]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it asks for the codec {encoding!r}')
    return text.encode(encoding)


@register_handler(['pickle', 'pkl'])
class SafePickleHandler(PickleHandler):
    """MMEngine's handler, for plain values and arrays of them."""

    def load_from_fileobj(self, file: io.IOBase, **kwargs: Any) -> Any:
        """Read plain values.

        Raises:
            ValueError: It is no whole pickle, or asks for more.
        """
        try:
            return _Unpickler(file, **kwargs).load()
        except (pickle.UnpicklingError, EOFError) as error:
            name = getattr(file, 'name', 'a file')
            raise ValueError(f'{name} is no pickle of plain values: {error}') from error
