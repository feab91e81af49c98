# DropPos ViT-S/16, 800 epochs of ImageNet-1K: the recipe of ViT-B (Sec. A.1).
#
# bash tools/dist_train.sh \
#     configs/droppos/droppos_vit-small-p16_8xb512-coslr-800e_in1k.py 8 --amp
#
# Not in the paper, and not run by this project.
_base_ = './droppos_vit-base-p16_8xb512-coslr-800e_in1k.py'

model = dict(backbone=dict(arch='small'))
