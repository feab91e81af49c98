# ImageNet-1K, linear probe of a frozen ViT-B/16: MMPretrain's recipe for MAE.
#
# bash tools/dist_train.sh \
#     configs/transfer/classification/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py 8 \
#     --pretrained PRETRAINED.pth
_base_ = [
    'mmpretrain::mae/benchmarks/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py',
    '../../_base_/transfer_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmpospretrain.PositionViT',
        init_cfg=dict(
            _delete_=True, type='mmpospretrain.PretrainedBackbone', checkpoint=None
        ),
    ),
)
# LARS 6.4 for batch 16,384: .1 per 256 images.
auto_scale_lr = dict(enable=True, base_batch_size=16384)
default_hooks = dict(
    checkpoint=dict(
        type='mmpospretrain.AtomicCheckpointHook',
        max_keep_ckpts=2,
        backend_args=dict(backend='atomic'),
    )
)
