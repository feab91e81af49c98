# DropPos ViT-L/16, 800 epochs of ImageNet-1K, 40 of them warm-up (Sec. A.1).
#
# bash tools/dist_train.sh \
#     configs/droppos/droppos_vit-large-p16_8xb512-coslr-800e_in1k.py 8 --amp
#
# Hardware: the paper used 32 V100 (Sec. A.1); not run by this project.
# Reported by the paper: 85.8 top-1 on ImageNet-1K after fine-tuning (Tab. 5).
_base_ = './droppos_vit-large-p16_8xb512-coslr-200e_in1k.py'

max_epochs = 800
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
