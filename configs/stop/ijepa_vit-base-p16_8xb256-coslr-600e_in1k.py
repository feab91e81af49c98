# I-JEPA ViT-B/16, 600 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh configs/stop/ijepa_vit-base-p16_8xb256-coslr-600e_in1k.py 8 \
#     --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper of StoP: linear probe on ImageNet-1K 70.9 top-1 (last layer),
# 72.9 (last four layers), 57.1 with 1 % of the labels (Tab. 1).
_base_ = [
    '../_base_/models/ijepa_vit-base-p16.py',
    '../_base_/datasets/imagenet_224_ijepa.py',
    '../_base_/schedules/adamw_ijepa_600e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=_base_.img_size))
