# Fine-tuning by the recipe of DeiT, "exactly", as MP3 does (Sec. 4.2), but for the
# data, with which RandAugment, random erasing and repeated augmentation are.
_base_ = [
    'mmpretrain::_base_/default_runtime.py',
    './transfer_runtime.py',
    './models/vit-base-p16_deit.py',
    './schedules/adamw_deit_300e.py',
]

# Relative positions decay no more than the others.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(rel_pos_bias=dict(decay_mult=0.0)))
)
default_hooks = dict(
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    )
)
randomness = dict(seed=0)
