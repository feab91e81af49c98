# PosField ViT-B/16, 100 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh \
#     configs/posfield/posfield_vit-base-p16_8xb64-coslr-100e_in1k.py 8 --amp
#
# Learning rate: 2e-3 · √(512 / 1024) = 1.41e-3.
#
# Hardware in the paper: two nodes of 4 A6000 (Sec. B.1); not run by this project.
# Reported by the paper: COCO 49.2 box AP, 43.8 mask AP, ADE20K 48.4 mIoU (Tab. 1a); an
# epoch takes 1.3 times one of DINOv2 (Sec. B.1).
_base_ = [
    './dinov2_vit-base-p16_8xb64-coslr-100e_in1k.py',
    '../_base_/models/posfield.py',
]

model = _base_.posfield
