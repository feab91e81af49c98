# Everything around a pre-training: registries, hooks, logs, checkpoints, seeds.
custom_imports = dict(imports=['mmpospretrain'])
default_scope = 'mmpretrain'
runner_type = 'mmpospretrain.PretrainRunner'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Written aside and then renamed, so that a kill leaves the last one intact.
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        interval=10,
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    step_seed=dict(type='mmpospretrain.StepSeedHook'),
    strict_load=dict(type='mmpospretrain.StrictLoadHook'),
    throughput=dict(type='mmpospretrain.ThroughputHook'),
    finite_guard=dict(type='mmpospretrain.FiniteGuardHook'),
)

# Losses, accuracies, times and speeds in the log are means over the last 50 iterations.
log_processor = dict(
    type='LogProcessor',
    window_size=50,
    mean_pattern=r'.*(loss|acc|time|images_per_s|grad_norm).*',
)
log_level = 'INFO'

visualizer = dict(
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],  # train.py --tensorboard adds another
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # gloo where there is no GPU
)
randomness = dict(seed=0)
compile = False  # torch.compile: --cfg-options compile=True
load_from = None
resume = False
