# Mask R-CNN with ViTDet and SimpleFPN on PhotoShapes, a small ViT, 400 labelled images.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py \
#     configs/transfer/detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py \
#     --pretrained PRETRAINED.pth
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/default_runtime.py',
    '../../_base_/models/vit-tiny.py',
    '../../_base_/models/vitdet-base-p16.py',
    '../../_base_/datasets/photoshapes_coco.py',
    '../../_base_/transfer_runtime.py',
]

model = dict(
    backbone=dict(
        _base_.vitdet,
        arch=_base_.vit_tiny,
        img_size=_base_.img_size,
        window_size=4,
        global_layers=(1, 3),
        drop_path_rate=0.0,
        learnable_pos_embed=False,
    ),
    neck=dict(_base_.simple_fpn, in_channels=128, out_channels=64),
    # Anchors of 16, 32, … pixels for images of 112², and heads a quarter as wide as
    # MMDetection's: minutes on a CPU.
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=4),
        mask_roi_extractor=dict(out_channels=64, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(
            in_channels=64, conv_out_channels=32, num_convs=2, num_classes=4
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=400, max_per_img=100), rcnn=dict(sampler=dict(num=32))
    ),
    test_cfg=dict(rpn=dict(nms_pre=400, max_per_img=100), rcnn=dict(max_per_img=20)),
)

max_iters = 300
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmpospretrain.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=30, end=max_iters
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=150)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        by_epoch=False,
        interval=100,
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    ),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
