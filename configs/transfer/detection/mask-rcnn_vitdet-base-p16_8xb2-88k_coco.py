# Mask R-CNN on COCO, ViT-B/16 in windows: the recipe of DropPos (Sec. A.2), 12 epochs.
#
# bash tools/dist_train.sh \
#     configs/transfer/detection/mask-rcnn_vitdet-base-p16_8xb2-88k_coco.py 8 \
#     --pretrained PRETRAINED.pth
#
# Reported by the paper: 42.1 box AP, 37.9 mask AP after 200 epochs of DropPos on
# ImageNet-1K; 47.7 and 42.6 after 800.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../../_base_/models/vitdet-base-p16.py',
    '../../_base_/schedules/vitdet_8xb2-88k.py',
    '../../_base_/transfer_runtime.py',
]

model = dict(
    data_preprocessor=_base_.fixed_size,
    backbone=_base_.vitdet,
    neck=_base_.simple_fpn,
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=_base_.bbox_head,
        mask_head=_base_.mask_head,
    ),
)
