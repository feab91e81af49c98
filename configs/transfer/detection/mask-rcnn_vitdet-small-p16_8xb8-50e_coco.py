# Mask R-CNN on COCO, ViT-S/16: PosField's recipe for 50 epochs, all else in proportion.
#
# Reported by the paper: 48.7 box AP, 43.3 mask AP after 100 epochs of PosField on
# ImageNet-1K (Tab. 2).
_base_ = './mask-rcnn_vitdet-base-p16_8xb8-50e_coco.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
