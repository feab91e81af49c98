# I-JEPA ViT-L/16, 600 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh \
#     configs/stop/ijepa_vit-large-p16_8xb256-coslr-600e_in1k.py 8 --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper of StoP: linear probe on ImageNet-1K 76.1 top-1 (last layer),
# 77.5 (last four layers), 64.2 with 1 % of the labels (Tab. 1).
_base_ = './ijepa_vit-base-p16_8xb256-coslr-600e_in1k.py'

model = dict(backbone=dict(arch='large'), neck=dict(depth=12))
