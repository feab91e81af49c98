# StoP ViT-B/16, 600 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh configs/stop/stop_vit-base-p16_8xb256-coslr-600e_in1k.py 8 \
#     --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: linear probe on ImageNet-1K 72.6 top-1 (last layer), 74.5 (last
# four layers), 60.3 with 1 % of the labels (Tab. 1).
_base_ = './ijepa_vit-base-p16_8xb256-coslr-600e_in1k.py'

model = dict(
    type='mmpospretrain.StoP',
    neck=dict(type='mmpospretrain.StochasticPredictor', sigma=0.25),
)
