"""How hooks reach into a model."""

from operator import attrgetter
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without what distributes it."""
    return model.module if is_model_wrapper(model) else model


def find(owner: nn.Module, path: str, hook: Hook) -> Any:
    """What is at a dotted path in a module; the empty path is the module itself.

    Raises:
        ValueError: If there is nothing; names the hook and the path.
    """
    try:
        return attrgetter(path)(owner) if path else owner
    except AttributeError as error:
        raise ValueError(
            f'{type(hook).__name__}: {type(owner).__name__} has no {path!r} ({error})'
        ) from error
