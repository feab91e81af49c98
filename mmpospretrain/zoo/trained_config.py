"""The config inside a checkpoint of MMEngine, which is Python: read, and never run."""

import ast
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .checkpoint_state import UNREADABLE, config_text


def config_options(text: str) -> dict[str, Any]:
    """What a config says, as MMEngine writes it into checkpoints.

    Returns:
        Its options; those that are no plain values are left out. Empty if ``text`` is
        no such config.
    """
    try:
        tree = ast.parse(text)
    except UNREADABLE:
        return {}  # the caller has other ways
    options = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            with suppress(*UNREADABLE):
                name = ast.unparse(statement.targets[0])
                options[name] = _plain_value(statement.value)
    return options


def model_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the config inside a checkpoint says of ``model``, likewise."""
    model = config_options(config_text(checkpoint)).get('model')
    return model if isinstance(model, dict) else {}


def backbone_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the config inside a checkpoint says of ``model.backbone``, likewise."""
    options = model_options(checkpoint).get('backbone')
    return options if isinstance(options, dict) else {}


def image_options(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict]]:
    """How the config inside a checkpoint prepares images that are evaluated.

    Returns:
        Options of its ``data_preprocessor``, and its ``val_pipeline``; empty where it
        does not say.
    """
    config = config_options(config_text(checkpoint))
    inner = model_options(checkpoint).get('data_preprocessor')
    options = config.get('data_preprocessor') or inner or {}
    pipeline = config.get('val_pipeline')
    steps = pipeline if isinstance(pipeline, list) else []
    return options, [step for step in steps if isinstance(step, dict)]


def _options(node: ast.expr) -> dict[Any, Any] | None:
    """What ``dict(a=1)``, ``{'a': 1}`` or, MMEngine's way, ``dict({'a.b': 1})`` say.

    Without what is no plain value; None if it is no such expression.
    """
    pairs = []
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        pairs = [(ast.Constant(k.arg), k.value) for k in node.keywords if k.arg]
        node = node.args[0] if node.args else ast.Dict([], [])
    if not isinstance(node, ast.Dict):
        return None
    options = {}
    for key, value in [*pairs, *zip(node.keys, node.values, strict=True)]:
        with suppress(TypeError, ValueError):
            options[ast.literal_eval(key)] = _plain_value(value)
    return options


def _plain_value(node: ast.expr) -> Any:
    """What an expression without variables says, with dicts in any place."""
    options = _options(node)
    if options is not None:
        return options
    if isinstance(node, ast.List | ast.Tuple):
        values = [_plain_value(element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)
