"""The config inside a checkpoint of MMEngine, which is Python: read, and never run."""

import ast
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


def model_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the config inside a checkpoint says of ``model``.

    Returns:
        Its options; those that are no plain values are left out. Empty if there is no
        such config.
    """
    try:
        tree = ast.parse(checkpoint.get('meta', {}).get('cfg', ''))
    except (AttributeError, SyntaxError, TypeError, ValueError):
        return {}  # the caller has other ways
    variables = {
        ast.unparse(statement.targets[0]): statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
    }
    model = variables.get('model')
    return _options(model) if _is_dict_call(model) else {}


def _is_dict_call(node: ast.expr | None) -> bool:
    is_call = isinstance(node, ast.Call) and not node.args
    return is_call and ast.unparse(node.func) == 'dict'


def _options(call: ast.Call) -> dict[str | None, Any]:
    """Keywords of ``dict(a=1)``, without those that are no plain values."""
    options = {}
    for keyword in call.keywords:
        with suppress(TypeError, ValueError):
            options[keyword.arg] = _plain_value(keyword.value)
    return options


def _plain_value(node: ast.expr) -> Any:
    """What an expression without variables says, with ``dict(a=1)`` in any place."""
    if _is_dict_call(node):
        return _options(node)
    if isinstance(node, ast.List | ast.Tuple):
        values = [_plain_value(element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict):
        keys = map(ast.literal_eval, node.keys)
        return dict(zip(keys, map(_plain_value, node.values), strict=True))
    return ast.literal_eval(node)
