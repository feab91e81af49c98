# UperNet on ADE20K, ViT-B/16, 512²: the recipe of DropPos (Sec. A.3).
#
# bash tools/dist_train.sh \
#     configs/transfer/segmentation/upernet_vit-base-p16_8xb2-80k_ade20k.py 8 \
#     --pretrained PRETRAINED.pth
#
# Reported by the paper: 40.7 mIoU after 200 epochs of DropPos on ImageNet-1K, and 47.8
# after 800. It searches the learning rate for every backbone: 1e-4 for MAE, 7e-4 for
# DropPos.
_base_ = [
    'mmseg::_base_/models/upernet_mae.py',
    'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_80k.py',
    '../../_base_/transfer_runtime.py',
]

model = dict(
    # Images smaller than a sliding window may have any size; patches may not.
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(size_divisor=16)),
    backbone=dict(
        _delete_=True,
        type='mmpospretrain.PositionViT',
        arch='base',
        img_size=512,
        patch_size=16,
        out_type='featmap',
        final_norm=False,
        out_indices=[3, 5, 7, 11],
        drop_path_rate=0.1,
        learnable_pos_embed=True,
        init_cfg=dict(type='mmpospretrain.PretrainedBackbone', checkpoint=None),
    ),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768] * 4, channels=768, num_classes=150),
    auxiliary_head=dict(in_channels=768, num_classes=150),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)

# AdamW 7e-4, weight decay .05, batch 16, warm-up 1500, poly: Sec. A.3. Maps, layer
# decay and sliding windows: MMSegmentation's UperNet on MAE, whose code the paper
# follows.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=7e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmpospretrain.LayerDecayConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            rel_pos_bias=dict(decay_mult=0.0),
            cls_token=dict(decay_mult=0.0),
            register_tokens=dict(decay_mult=0.0),
        ),
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=80000),
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
