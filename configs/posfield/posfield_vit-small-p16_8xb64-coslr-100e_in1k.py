# PosField ViT-S/16, 100 epochs of ImageNet-1K: the setting of all ablations of the
# paper, which are options of this config (README.md has the list).
#
# bash tools/dist_train.sh \
#     configs/posfield/posfield_vit-small-p16_8xb64-coslr-100e_in1k.py 8 --amp
#
# Learning rate: 2e-3 · √(512 / 1024) = 1.41e-3.
#
# Hardware in the paper: 4 A6000 (Sec. B.1); not run by this project.
# Reported by the paper: COCO 44.8 box AP, 39.8 mask AP, ADE20K 44.8 mIoU (Tab. 1b);
# 48.7 and 43.3 AP after 50 epochs of fine-tuning (Tab. 2).
_base_ = [
    './dinov2_vit-small-p16_8xb64-coslr-100e_in1k.py',
    '../_base_/models/posfield.py',
]

model = _base_.posfield
