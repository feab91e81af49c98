"""What reads each part of a config: the tables of :mod:`.config_check`.

Constructors state their keys in their signature. Here is the rest: keys that MMEngine
and its builders read themselves, by the place of the dict in the config.
"""

import torch
from mmengine import registry as root
from mmengine.dataset import BaseDataset
from mmengine.dist import init_dist
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model.weight_init import BaseInit
from mmengine.optim import BaseOptimWrapper, OptimWrapper, _ParamScheduler
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    Runner,
    TestLoop,
    ValLoop,
    set_random_seed,
)
from mmengine.utils.dl_utils import set_multi_processing
from mmpretrain.models.utils import (
    ClsDataPreprocessor,
    MultiModalDataPreprocessor,
    SelfSupDataPreprocessor,
)
from torch.distributed import init_process_group
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from .signatures import named_parameters

# Keys that builders take before the constructor sees the dict.
BUILDER_KEYS = {
    object: {'type', '_delete_', '_scope_'},
    BaseDataset: {'max_broken_share'},  # taken by PretrainRunner
    BaseInit: {'name', 'override'},
    BaseOptimWrapper: {'constructor', 'paramwise_cfg'},
    Hook: {'priority'},
    _ParamScheduler: {'convert_to_iter_based', 'epoch_length'},
}

# Constructors that keep their **kwargs for a later call.
FORWARDED = {CheckpointHook: Runner.save_checkpoint}

# Helpers of mmcv build these layers, and take keys of their own from their dicts.
LAYERS = r'.*[._]((act|conv|norm|padding|upsample)_cfg|dcn)'

TOP_LEVEL = named_parameters(Runner) - {'cfg'} | {
    # read from the config without being an argument of the Runner
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}

_DATALOADER = named_parameters(DataLoader) | {'num_batch_per_epoch'}
_EVALUATOR = named_parameters(Evaluator)
_PREPROCESSOR = named_parameters(
    ClsDataPreprocessor, MultiModalDataPreprocessor, SelfSupDataPreprocessor
)

# Dicts that need no `type`, or whose `type` is not a registered name.
READERS = {
    '': TOP_LEVEL,
    'auto_scale_lr': {'base_batch_size', 'enable', 'rule'},
    'compile': named_parameters(torch.compile),
    'data_preprocessor': _PREPROCESSOR,
    'env_cfg': {'cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'},
    'env_cfg.dist_cfg': named_parameters(init_dist, init_process_group),
    'env_cfg.mp_cfg': named_parameters(set_multi_processing),
    'log_processor': named_parameters(LogProcessor),
    'model.data_preprocessor': _PREPROCESSOR,
    'optim_wrapper': named_parameters(OptimWrapper) | BUILDER_KEYS[BaseOptimWrapper],
    'optim_wrapper.clip_grad': {'type'}
    | named_parameters(clip_grad_norm_, clip_grad_value_),
    'randomness': named_parameters(set_random_seed),
    'test_cfg': named_parameters(TestLoop),
    'test_dataloader': _DATALOADER,
    'test_evaluator': _EVALUATOR,
    'train_cfg': {'by_epoch'}
    | named_parameters(EpochBasedTrainLoop, IterBasedTrainLoop),
    'train_dataloader': _DATALOADER,
    'val_cfg': named_parameters(ValLoop),
    'val_dataloader': _DATALOADER,
    'val_evaluator': _EVALUATOR,
}

_PARAMWISE = {
    'bias_decay_mult',
    'bias_lr_mult',
    'bypass_duplicate',
    'custom_keys',
    'dcn_offset_lr_mult',
    'dwconv_decay_mult',
    'flat_decay_mult',
    'norm_decay_mult',
}

# `optim_wrapper.paramwise_cfg`, by `optim_wrapper.constructor`, as documented.
PARAMWISE = {
    'DefaultOptimWrapperConstructor': _PARAMWISE,
    'LayerDecayConstructor': _PARAMWISE | {'layer_decay_rate'},
    'LearningRateDecayOptimWrapperConstructor': _PARAMWISE | {'layer_decay_rate'},
    'MergedGroupsConstructor': _PARAMWISE,
}

# Other names are the user's own, but a near miss of one of these is a mistake: a second
# CheckpointHook besides the default one.
DEFAULT_HOOKS = {
    'checkpoint',
    'logger',
    'param_scheduler',
    'runtime_info',
    'sampler_seed',
    'timer',
    'visualization',
}

# Below `paramwise_cfg.custom_keys`; other keys are options of the optimizer.
CUSTOM_KEYS = {'decay_mult', 'lr_mult'}

# Places where a `type` is built for certain, and the registries it is most likely in.
BUILT = {
    r'model|tta_model|(.*[._])?(backbone|neck|head|data_preprocessor)': [root.MODELS],
    r'.*\.dataset': [root.DATASETS],
    r'(.*[._])?pipeline': [root.TRANSFORMS],
    r'\w+_dataloader\.(batch_)?sampler': [root.DATA_SAMPLERS],
    r'\w+_evaluator': [root.METRICS, root.EVALUATOR],
    r'custom_hooks|default_hooks\.\w+': [root.HOOKS],
    r'optim_wrapper': [root.OPTIM_WRAPPERS],
    r'optim_wrapper\.optimizer': [root.OPTIMIZERS],
    r'param_scheduler': [root.PARAM_SCHEDULERS],
    r'(test|train|val)_cfg': [root.LOOPS],
    r'visualizer': [root.VISUALIZERS],
    r'visualizer\.vis_backends': [root.VISBACKENDS],
}
