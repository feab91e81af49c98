# DropPos ViT-B/16, 800 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh \
#     configs/droppos/droppos_vit-base-p16_8xb512-coslr-800e_in1k.py 8 --amp
#
# Hardware: the paper used 64 RTX 2080 Ti (Sec. A.1); not run by this project.
# Reported by the paper: 84.2 top-1 on ImageNet-1K after fine-tuning, 47.7 box AP and
# 42.6 mask AP on COCO, 47.8 mIoU on ADE20K (Tabs. 5, 6).
_base_ = './droppos_vit-base-p16_8xb512-coslr-200e_in1k.py'

max_epochs = 800
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
