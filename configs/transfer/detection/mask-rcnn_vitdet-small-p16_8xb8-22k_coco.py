# Mask R-CNN on COCO, ViT-S/16: the recipe of PosField (Sec. B.2).
#
# Reported by the paper: 44.8 box AP, 39.8 mask AP after 100 epochs of PosField on
# ImageNet-1K; 41.9 and 37.7 after as many of DINOv2.
_base_ = './mask-rcnn_vitdet-base-p16_8xb8-22k_coco.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=1e-4))
