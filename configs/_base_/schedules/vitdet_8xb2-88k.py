# COCO by the recipe of DropPos (Sec. A.2): 12 epochs in 88,750 iterations of batch 16.
_base_ = '../datasets/coco_lsj-1024.py'

# AdamW 3e-4, batch 16, ×.1 at two milestones: DropPos, Sec. A.2. Betas, weight decay,
# layer decay and warm-up: ViTDet.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='mmpospretrain.LayerDecayConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        custom_keys=dict(pos_embed=dict(decay_mult=0.0)),
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=16)

max_iters = 88750
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=7396
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[78889, 85463],
        gamma=0.1,
    ),
]

train_dataloader = dict(
    batch_size=2, sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True)
)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        by_epoch=False,
        interval=7396,  # an epoch: 118,287 images / 16 = 7393
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    ),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
