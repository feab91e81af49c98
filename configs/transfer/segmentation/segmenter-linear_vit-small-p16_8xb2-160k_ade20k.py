# Segmenter with its linear decoder on ADE20K, ViT-S/16: the recipe of PosField
# (Sec. B.3).
#
# Reported by the paper: 44.8 mIoU after 100 epochs of PosField on ImageNet-1K.
_base_ = './segmenter-linear_vit-base-p16_8xb2-160k_ade20k.py'

model = dict(
    backbone=dict(arch='small'), decode_head=dict(in_channels=384, channels=384)
)
