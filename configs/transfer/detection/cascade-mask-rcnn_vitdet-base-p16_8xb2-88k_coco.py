# Cascade Mask R-CNN on COCO, ViT-B/16 in windows, by the recipe of DropPos. No paper of
# this suite reports it.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
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
        bbox_head=[
            dict(head, **_base_.bbox_head) for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=_base_.mask_head,
    ),
)
