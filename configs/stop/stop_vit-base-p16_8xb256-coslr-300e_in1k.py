# StoP ViT-B/16, 300 epochs of ImageNet-1K: the setting of all ablations of the paper,
# which are options of this config (README.md has the list).
#
# bash tools/dist_train.sh configs/stop/stop_vit-base-p16_8xb256-coslr-300e_in1k.py 8 \
#     --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: linear probe with 1 % of the labels of ImageNet-1K, 57.8 top-1;
# 54.3 without noise (Tabs. 6-8).
_base_ = './stop_vit-base-p16_8xb256-coslr-600e_in1k.py'

max_epochs = 300
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
