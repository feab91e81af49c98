"""Misspelt keys in a config are errors that say what was meant.

MMEngine reads many options with ``dict.get``, where a misspelt key is a silent no-op,
and builds the rest one after the other, so that a misspelt key is found late and alone.
This check compares every dict of a config with what will read it: the constructor of
its ``type``, or the code behind its place in the config (:mod:`.config_readers`). It
builds nothing.

What nothing is known about is left alone: dicts without a ``type``, such as the
``train_cfg`` of a detector, and constructors that pass ``**kwargs`` to who knows whom.
"""

import inspect
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from itertools import chain
from typing import Any, NamedTuple

from mmengine import registry as root
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from .config_readers import (
    BUILDER_KEYS,
    BUILT,
    CUSTOM_KEYS,
    DEFAULT_HOOKS,
    FORWARDED,
    LAYERS,
    PARAMWISE,
    READERS,
    TOP_LEVEL,
)
from .signatures import accepted_keywords, string_literals
from .value_check import between_places, wrong_argument, wrong_value

Targets = list[Callable]
"""What a ``type`` may stand for; one name may be in several registries."""


def check_config(cfg: Config) -> None:
    """Look for misspelt keys and types.

    Other names on the top level than those MMEngine reads are variables of the config
    file, and wrong only if they look like one that was meant.

    Then values that cannot be meant.

    Raises:
        ValueError: names each with its path and the nearest right name, or what is
            allowed.
    """
    checker = _Checker(cfg)
    _report('keys', checker.variables(), checker.arguments())
    _report('values', checker.values(), between_places(checker.cfg))


def check_cfg_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Look for misspelt keys in ``--cfg-options``, before they are merged.

    A key must be in the config already, or be known to what reads its parent.

    Args:
        cfg: the config without the options.
        options: dotted keys and their values; a number is an index of a list.

    Raises:
        ValueError: names each wrong key and the nearest right name.
    """
    checker = _Checker(cfg)
    _report('keys', *(checker.option(key, options) for key in options))


def check_option_values(cfg: Config, options: Mapping[str, Any]) -> None:
    """Look for values of ``--cfg-options`` that cannot be meant.

    Args:
        cfg: the config with the options merged.
        options: as of `check_cfg_options`.

    Raises:
        ValueError: names each key, its value and what is allowed.
    """
    given = tuple(f'{key}.' for key in options)
    found = _Checker(cfg).values()
    wrong = (line for line in found if f'{line.partition(":")[0]}.'.startswith(given))
    _report('values', wrong)


class Reader(NamedTuple):
    """What reads a dict, and the keys it knows."""

    name: str
    keys: set[str]
    strict: bool = True
    """If False, other keys may be right as well, unless they look misspelt."""

    def complaints(
        self,
        keys: Iterable[str],
        path: str,
        parents: Targets,
        beside: Iterable[str] = (),
    ) -> Iterator[str]:
        """Say which keys are unknown.

        Args:
            keys: the keys in question.
            path: where their dict is in the config.
            parents: what takes the dict as an argument.
            beside: other keys of the dict that are known to be right.
        """
        known = self.keys.union(beside)
        for key in set(keys) - known:
            if not self.strict and not _near_miss(key, known):
                continue
            if not _taken_by(parents, key):
                listed = ', '.join(sorted(k for k in known if k[0] != '_'))
                hint = did_you_mean(key, known) or f'known are {listed}'
                yield f'{_join(path, key)}: unknown key of {self.name}; {hint}'


class _Checker:
    """Compares a config with what will read it; its methods yield complaints."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = (cfg if isinstance(cfg, Config) else Config(cfg)).to_dict()
        self.scope = self.cfg.get('default_scope') or 'mmengine'

    def variables(self) -> Iterator[str]:
        # `test_pipeline` is a variable by custom, and no misspelt `tta_pipeline`.
        known = TOP_LEVEL - {'tta_pipeline'}
        for key in self.cfg.keys() - TOP_LEVEL:
            if near := _near_miss(key, known):
                yield f'{key}: unknown key; did you mean {near!r}?'

    def arguments(self) -> Iterator[str]:
        for key in self.cfg.keys() & TOP_LEVEL:
            yield from self._walk(self.cfg[key], key, self.scope, [])

    def values(self) -> Iterator[str]:
        for path, value, targets in self._leaves(self.cfg, '', self.scope, []):
            key = path.rpartition('.')[2]
            wrong = (wrong_argument(path, value, target, key) for target in targets)
            if complaint := wrong_value(path, value) or next(filter(None, wrong), None):
                yield complaint

    def _leaves(
        self, node: Any, path: str, scope: str, targets: Targets
    ) -> Iterator[tuple[str, Any, Targets]]:
        """Every value of the places that are read, and what is built with it."""
        if path:
            yield path, node, targets
        if isinstance(node, list | tuple):
            for i, value in enumerate(node):
                yield from self._leaves(value, _join(path, i), scope, [])
        elif isinstance(node, Mapping):
            scope = node.get('_scope_', scope)
            targets, _ = _lookup(node.get('type'), path, scope)
            for key in node.keys() if path else node.keys() & TOP_LEVEL:
                yield from self._leaves(node[key], _join(path, key), scope, targets)

    def _walk(
        self, node: Any, path: str, scope: str, parents: Targets
    ) -> Iterator[str]:
        if isinstance(node, list | tuple):
            for i, value in enumerate(node):
                yield from self._walk(value, _join(path, i), scope, parents)
        elif isinstance(node, Mapping):
            scope = node.get('_scope_', scope)
            targets, problem = _lookup(node.get('type'), path, scope)
            if problem:
                yield f'{_join(path, "type")}: {problem}'
            if reader := self._reader(node, path, targets):
                yield from reader.complaints(node, path, parents)
            parents = targets or parents
            for key, value in node.items():
                yield from self._walk(value, _join(path, key), scope, parents)

    def option(self, option: str, options: Mapping[str, Any]) -> Iterator[str]:
        """Follow a dotted key down to where it ends, or to where it is new."""
        node, path, scope, parents = self.cfg, '', self.scope, []
        for key in option.split('.'):
            if isinstance(node, Mapping):
                scope = node.get('_scope_', scope)
                # The type of what reads this dict may be among the options.
                type_ = options.get(_join(path, 'type'), node.get('type'))
                targets, _ = _lookup(type_, path, scope)
                if key not in node:
                    if reader := self._reader({**node, 'type': type_}, path, targets):
                        yield from reader.complaints([key], path, parents, beside=node)
                    return  # All below is new, and is checked once it is merged.
                parents = targets or parents
                node = node[key]
            elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            else:
                what = f'a list of {len(node)}' if isinstance(node, list) else node
                yield f'{option}: {path} is {what}, there is no {key!r} in it'
                return
            path = _join(path, key)
        variable = option.partition('.')[0]
        if variable not in TOP_LEVEL:
            print_log(
                f'--cfg-options {option}: {variable} is a variable of the config file; '
                'values that the file made from it do not change.',
                logger='current',
                level=logging.WARNING,
            )

    def _reader(self, node: Mapping, path: str, targets: Targets) -> Reader | None:
        """What reads a dict, None if nothing is known about it."""
        if path.startswith('optim_wrapper.paramwise_cfg'):
            return self._paramwise_reader(path)
        if path == 'default_hooks':
            return Reader(path, DEFAULT_HOOKS, strict=False)
        if path in READERS and ('type' in READERS[path] or not node.get('type')):
            return Reader(path or 'the config', READERS[path])
        accepted = [accepted_keywords(target, FORWARDED) for target in targets]
        if not targets or None in accepted or re.fullmatch(LAYERS, path):
            return None
        classes = [cls for t in targets if inspect.isclass(t) for cls in t.__mro__]
        taken = (BUILDER_KEYS.get(cls, set()) for cls in {object, *classes})
        return Reader(targets[0].__name__, set().union(*accepted, *taken))

    def _paramwise_reader(self, path: str) -> Reader | None:
        wrapper = self.cfg['optim_wrapper']
        constructor = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
        name = getattr(constructor, '__name__', str(constructor)).rpartition('.')[2]
        if name not in PARAMWISE or path.endswith('.custom_keys'):
            return None
        if path.endswith('.paramwise_cfg'):
            return Reader(name, PARAMWISE[name])
        return Reader('custom_keys', CUSTOM_KEYS, strict=False)


def _lookup(name: Any, path: str, scope: str) -> tuple[Targets, str | None]:
    """Find what a ``type`` stands for, or say what is wrong with it."""
    if not isinstance(name, str):
        return [name] if callable(name) else [], None
    prefix, dot, bare = name.partition('.')
    scope, bare = (prefix, bare) if dot else (scope, name)
    place = re.sub(r'\.\d+$', '', path)
    kinds = next((BUILT[p] for p in BUILT if re.fullmatch(p, place)), [])
    nodes, complete = _registries(scope)
    tables = [node.module_dict for node in nodes]
    likely = [t for t, n in zip(tables, nodes, strict=True) if _origin(n) in kinds]
    if targets := [t[bare] for t in (likely if kinds else tables) if bare in t]:
        return targets, None
    if dot and callable(target := get_object_from_string(name)):
        return [target], None
    if not kinds or not complete or any(bare in table for table in tables):
        return [], None
    hint = did_you_mean(bare, chain(*likely)) or f'{scope} has nothing like it'
    return [], f'unknown type {name!r}; {hint}'


@cache
def _registries(scope: str) -> tuple[list[Registry], bool]:
    """Registries of a scope and of MMEngine, and whether all could be filled."""
    modules, complete = [root], True
    try:
        modules.append(import_module(f'{scope}.registry'))
    except ImportError:
        complete = False
    found = [v for m in modules for v in vars(m).values() if isinstance(v, Registry)]
    nodes = list({id(node): node for node in found}.values())
    for node in nodes:
        try:
            node.import_from_location()
        except (ImportError, AssertionError):  # no compiled ops, or a wrong version
            complete = False
    return nodes, complete


def _origin(registry: Registry) -> Registry:
    return _origin(registry.parent) if registry.parent else registry


def _taken_by(parents: Targets, key: str) -> bool:
    """Whether a class may take a key out of the dict of a part, before it builds it.

    RandAugment takes `magnitude_key` from its policies, DETRHead `bg_cls_weight` from
    its loss: the key is a string in their source.
    """
    return any(key in string_literals(cls) for cls in parents if inspect.isclass(cls))


def _near_miss(key: str, known: Iterable[str]) -> str | None:
    """The known key that was meant; `logger2`, `val_evaluator_coco` are other names."""
    near = get_close_matches(key, known, n=1, cutoff=0.85)
    return near[0] if near and not re.fullmatch(rf'{near[0]}(_.*|\d+)', key) else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A question for the end of an error message, if a known name is near."""
    known = list(known)
    near = [other for other in known if other.lower() == name.lower()]
    near = near or get_close_matches(name, known, n=1)
    return f'did you mean {near[0]!r}?' if near else None


def _join(path: str, key: Any) -> str:
    return f'{path}.{key}' if path else str(key)


def _report(what: str, *problems: Iterable[str]) -> None:
    if lines := sorted(chain(*problems)):
        start = '\n  ' if lines[1:] else ' '  # what is wrong alone is in the first line
        raise ValueError(f'wrong {what} in the config:{start}' + '\n  '.join(lines))
