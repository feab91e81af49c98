"""Registry nodes of the suite: children of MMEngine's root, scope ``mmpospretrain``.

Any OpenMMLab library builds a component of ours by its prefixed name, for example
``type='mmpospretrain.PositionViT'``: MMEngine imports this module when it meets the
prefix, which imports the package and fills the nodes.
"""

from collections.abc import Mapping
from typing import Any

from mmengine import registry as root
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.registry import Registry

from mmpospretrain import environment

environment.require()  # an error here, where importing the package only warns

SCOPE = 'mmpospretrain'

DATASETS = Registry('dataset', parent=root.DATASETS, scope=SCOPE)
FUNCTIONS = Registry('function', parent=root.FUNCTIONS, scope=SCOPE)
HOOKS = Registry('hook', parent=root.HOOKS, scope=SCOPE)
METRICS = Registry('metric', parent=root.METRICS, scope=SCOPE)
MODELS = Registry('model', parent=root.MODELS, scope=SCOPE)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=root.OPTIM_WRAPPER_CONSTRUCTORS,
    scope=SCOPE,
)
RUNNERS = Registry('runner', parent=root.RUNNERS, scope=SCOPE)
TRANSFORMS = Registry('transform', parent=root.TRANSFORMS, scope=SCOPE)
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=root.WEIGHT_INITIALIZERS, scope=SCOPE
)


def registered(name: Any, registry: Registry, scope: str | None = None) -> Any:
    """What the ``type`` of a config stands for, to be compared with a class.

    Args:
        name: A name with or without a scope, a dotted path, or, in a config that is
            pure Python, the class itself.
        registry: MMEngine's root node of the kind, e.g. `mmengine.registry.DATASETS`.
        scope: Where a name without a scope is looked for first; by default where
            MMEngine is.

    Returns:
        The class or function; None if there is no such name.
    """
    if isinstance(name, LazyAttr | LazyObject):
        return name.build()
    if not isinstance(name, str):
        return name
    with registry.switch_scope_and_registry(scope) as scoped:
        return scoped.get(name)


def builds(
    cfg: Mapping[str, Any],
    kinds: type | tuple[type, ...],
    registry: Registry,
    scope: str | None = None,
) -> bool:
    """Whether the ``type`` of a config is one of some classes, or a subclass.

    Args:
        cfg: Of a part.
        kinds: The classes.
        registry: As of `registered`.
        scope: As of `registered`.
    """
    kind = registered(cfg.get('type'), registry, scope)
    return isinstance(kind, type) and issubclass(kind, kinds)
