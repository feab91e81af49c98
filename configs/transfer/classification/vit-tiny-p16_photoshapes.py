# PhotoShapes, the class of the largest shape: a small ViT fine-tuned end to end on 1000
# labelled images.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py \
#     configs/transfer/classification/vit-tiny-p16_photoshapes.py \
#     --pretrained PRETRAINED.pth
_base_ = [
    'mmpretrain::_base_/default_runtime.py',
    '../../_base_/models/vit-tiny.py',
    '../../_base_/datasets/photoshapes_cls.py',
    '../../_base_/transfer_runtime.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmpospretrain.PositionViT',
        arch=_base_.vit_tiny,
        img_size=_base_.img_size,
        patch_size=16,
        out_type='avg_featmap',
        final_norm=False,
        init_cfg=dict(type='mmpospretrain.PretrainedBackbone', checkpoint=None),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=4,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss'),
    ),
)

max_epochs = 9
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        begin=1,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=3)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        interval=3,
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    ),
)
randomness = dict(seed=0)
