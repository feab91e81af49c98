# Segmenter with its linear decoder on ADE20K, ViT-B/16: the recipe of PosField
# (Sec. B.3). The paper sweeps weight decay over {1e-2, 1e-4} and the learning rate over
# {8e-5, 3e-5, 1e-5, 8e-6}, down to a tenth of it, and averages two runs:
#
# bash tools/dist_train.sh \
#   configs/transfer/segmentation/segmenter-linear_vit-base-p16_8xb2-160k_ade20k.py 8 \
#   --pretrained PRETRAINED.pth --cfg-options optim_wrapper.optimizer.lr=8e-5 \
#   param_scheduler.0.eta_min=8e-6 optim_wrapper.optimizer.weight_decay=1e-4
#
# Reported by the paper: 48.4 mIoU after 100 epochs of PosField on ImageNet-1K.
_base_ = [
    'mmseg::_base_/models/segmenter_vit-b16_mask.py',
    'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    '../../_base_/transfer_runtime.py',
]

model = dict(
    pretrained=None,
    # The mean and the spread of pre-training, not Segmenter's own .5 and .5.
    data_preprocessor=dict(
        size=(512, 512),
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        test_cfg=dict(size_divisor=16),  # images smaller than a sliding window
    ),
    backbone=dict(
        _delete_=True,
        type='mmpospretrain.PositionViT',
        arch='base',
        img_size=512,
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.1,
        learnable_pos_embed=True,
        init_cfg=dict(type='mmpospretrain.PretrainedBackbone', checkpoint=None),
    ),
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=768,
        channels=768,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=1e-2),
)
auto_scale_lr = dict(enable=True, base_batch_size=16)
param_scheduler = [
    dict(
        type='PolyLR',
        eta_min=0.1 * 3e-5,
        power=0.9,  # Segmenter's
        by_epoch=False,
        begin=0,
        end=160000,
    ),
]
train_dataloader = dict(batch_size=2)
default_hooks = dict(
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    )
)
randomness = dict(seed=0)
