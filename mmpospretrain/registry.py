"""Registry nodes of the suite: children of MMEngine's root, scope ``mmpospretrain``.

Any OpenMMLab library builds a component of ours by its prefixed name, for example
``type='mmpospretrain.PositionViT'``: MMEngine imports this module when it meets the
prefix, which imports the package and fills the nodes.
"""

from mmengine import registry as root
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
