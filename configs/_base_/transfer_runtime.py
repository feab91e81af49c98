# What every fine-tuning adds to the runtime of the library that its other bases are of.
custom_imports = dict(imports=['mmpospretrain'])
runner_type = 'mmpospretrain.PretrainRunner'

custom_hooks = [
    dict(type='mmpospretrain.StepSeedHook'),
    dict(type='mmpospretrain.StrictLoadHook'),
    dict(type='mmpospretrain.ThroughputHook'),
    dict(type='mmpospretrain.FiniteGuardHook'),
    dict(type='mmpospretrain.ResultHook'),
]
