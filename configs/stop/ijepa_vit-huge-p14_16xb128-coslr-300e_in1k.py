# I-JEPA ViT-H/14, 300 epochs of ImageNet-1K.
#
# GPUS=16 bash tools/slurm_train.sh PARTITION JOB \
#     configs/stop/ijepa_vit-huge-p14_16xb128-coslr-300e_in1k.py WORK_DIR --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper of StoP: linear probe on ImageNet-1K 78.2 top-1 (last layer),
# 79.3 (last four layers), 62.9 with 1 % of the labels (Tab. 1).
_base_ = './ijepa_vit-base-p16_8xb256-coslr-600e_in1k.py'

model = dict(backbone=dict(arch='huge', patch_size=14), neck=dict(depth=12))
train_dataloader = dict(batch_size=128)
max_epochs = 300
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
