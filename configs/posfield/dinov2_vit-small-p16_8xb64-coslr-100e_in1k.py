# DINOv2 ViT-S/16, 100 epochs of ImageNet-1K: the baseline of PosField, its DINOv2†.
#
# bash tools/dist_train.sh \
#     configs/posfield/dinov2_vit-small-p16_8xb64-coslr-100e_in1k.py 8 --amp
#
# Learning rate: 2e-3 · √(512 / 1024) = 1.41e-3.
#
# Hardware in the paper: 4 A6000 (Sec. B.1); not run by this project.
# Reported by the paper: COCO 41.9 box AP, 37.7 mask AP, ADE20K 44.7 mIoU (Tab. 1b).
_base_ = './dinov2_vit-base-p16_8xb64-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='small'))
