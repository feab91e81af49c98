# DINOv2 ViT-B/16, 100 epochs of ImageNet-1K: the baseline of PosField, its DINOv2†.
#
# bash tools/dist_train.sh \
#     configs/posfield/dinov2_vit-base-p16_8xb64-coslr-100e_in1k.py 8 --amp
#
# Learning rate: 2e-3 · √(512 / 1024) = 1.41e-3.
#
# Hardware in the paper: two nodes of 4 A6000 (Sec. B.1); not run by this project.
# Reported by the paper: COCO 47.7 box AP, 42.4 mask AP, ADE20K 47.5 mIoU (Tab. 1a).
_base_ = [
    '../_base_/models/dinov2_vit-base-p16.py',
    '../_base_/datasets/imagenet_224_multicrop.py',
    '../_base_/schedules/adamw_dinov2_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=_base_.img_size))
