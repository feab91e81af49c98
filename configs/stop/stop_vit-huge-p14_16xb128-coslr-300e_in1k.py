# StoP ViT-H/14, 300 epochs of ImageNet-1K.
#
# GPUS=16 bash tools/slurm_train.sh PARTITION JOB \
#     configs/stop/stop_vit-huge-p14_16xb128-coslr-300e_in1k.py WORK_DIR --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: linear probe on ImageNet-1K 79.0 top-1 (last layer), 79.6 (last
# four layers), 65.4 with 1 % of the labels (Tab. 1).
_base_ = './ijepa_vit-huge-p14_16xb128-coslr-300e_in1k.py'

model = dict(
    type='mmpospretrain.StoP',
    neck=dict(type='mmpospretrain.StochasticPredictor', sigma=0.25),
)
