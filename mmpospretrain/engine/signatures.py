"""Which keyword arguments does a class or function take, without calling it?"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping

from torch import nn

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def named_parameters(*functions: Callable) -> set[str]:
    """Names in the signatures of functions, ``self`` and ``**kwargs`` left out."""
    return {
        p.name
        for function in functions
        for p in _parameters(function)
        if p.kind in NAMED and p.name != 'self'
    }


def accepted_keywords(
    target: Callable, forwarded: Mapping[type, Callable]
) -> set[str] | None:
    """Names that may be given to a class or function as keyword arguments.

    ``**kwargs`` that a constructor hands to ``super().__init__`` are followed up the
    MRO.

    Args:
        target: a class, a function or any other callable.
        forwarded: for classes whose constructor keeps its ``**kwargs``, the function
            that gets them later.

    Returns:
        The names, None if any name may be right: the callable has ``**kwargs`` and its
        source does not tell where they go.
    """
    if not inspect.isclass(target):
        return None if _sink(target) else named_parameters(target)
    names: set[str] = set()
    for cls in inspect.getmro(target):
        if cls in (nn.Module, object):  # their **kwargs are there to be rejected
            break
        if (init := vars(cls).get('__init__')) is None:
            continue
        names |= named_parameters(init)
        if (sink := _sink(init)) is None:
            break
        if cls in forwarded:
            names |= named_parameters(forwarded[cls])
            break
        if (taken := _taken_on_the_way(cls, sink)) is None:
            return None
        names |= taken
    return names


def string_literals(cls: type) -> set[str]:
    """All string constants in the source of a class and its parents."""
    sources = map(_parse, inspect.getmro(cls))
    nodes = (node for tree in sources if tree for node in ast.walk(tree))
    return {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _sink(function: Callable) -> str | None:
    """Name of the ``**kwargs`` of a function."""
    parameters = _parameters(function)
    return next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)


def _parameters(function: Callable) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(function)
    except ValueError:  # compiled code that does not say
        signature = inspect.signature(lambda **options: options)
    return list(signature.parameters.values())


def _parse(code: Callable) -> ast.AST | None:
    """Syntax tree of a class or function, None if it has no Python source."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError):
        return None


def _taken_on_the_way(cls: type, sink: str) -> set[str] | None:
    """Keys that a constructor takes out of the ``**kwargs`` it hands to its parent's.

    Returns:
        The keys, None if it uses ``**kwargs`` in any other way, or not at all.
    """
    if (tree := _parse(vars(cls)['__init__'])) is None:
        return None
    keys, uses, explained, handed_on = set(), 0, 0, False
    for node in ast.walk(tree):
        uses += isinstance(node, ast.Name) and node.id == sink
        match node:
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Call(func=ast.Name(id='super'), args=args),
                    attr='__init__',
                )
            ) if not args or _is(args[0], cls.__name__):
                if any(k.arg is None and _is(k.value, sink) for k in node.keywords):
                    handed_on = True
                    explained += 1
            case (
                ast.Call(
                    func=ast.Attribute(value=owner, attr='get' | 'pop' | 'setdefault'),
                    args=[ast.Constant(value=key), *_],
                )
                | ast.Subscript(value=owner, slice=ast.Constant(value=key))
                | ast.Compare(left=ast.Constant(value=key), comparators=[owner])
            ) if _is(owner, sink):
                keys.add(key)
                explained += 1
            case ast.Assign(
                targets=[name], value=ast.Dict(keys=new, values=values)
            ) if _is(name, sink):  # kwargs = {'key': default, **kwargs}
                unpacked = zip(new, values, strict=True)
                explained += 1 + sum(k is None and _is(v, sink) for k, v in unpacked)
    return keys if handed_on and explained == uses else None


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
