# UperNet on PhotoShapes, a small ViT: background and four shapes, 100 labelled images.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py \
#     configs/transfer/segmentation/upernet_vit-tiny-p16_photoshapes.py \
#     --pretrained PRETRAINED.pth
_base_ = [
    'mmseg::_base_/models/upernet_mae.py',
    'mmseg::_base_/default_runtime.py',
    '../../_base_/models/vit-tiny.py',
    '../../_base_/datasets/photoshapes_seg.py',
    '../../_base_/transfer_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(_base_.img_size, _base_.img_size)),
    backbone=dict(
        _delete_=True,
        type='mmpospretrain.PositionViT',
        arch=_base_.vit_tiny,
        img_size=_base_.img_size,
        patch_size=16,
        out_type='featmap',
        final_norm=False,
        out_indices=[0, 1, 2, 3],
        init_cfg=dict(type='mmpospretrain.PretrainedBackbone', checkpoint=None),
    ),
    # Strides 8 to 64 instead of 4 to 32: a quarter of the work.
    neck=dict(embed_dim=128, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(
        in_channels=[128] * 4, channels=96, num_classes=5, norm_cfg=dict(type='BN')
    ),
    auxiliary_head=dict(
        in_channels=128, channels=64, num_classes=5, norm_cfg=dict(type='BN')
    ),
)

max_iters = 300
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmpospretrain.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=30),
    dict(
        type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=30, end=max_iters
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=150)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        by_epoch=False,
        interval=100,
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
)
randomness = dict(seed=0)
