# StoP ViT-L/16, 600 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh configs/stop/stop_vit-large-p16_8xb256-coslr-600e_in1k.py 8 \
#     --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: linear probe on ImageNet-1K 77.1 top-1 (last layer), 78.5 (last
# four layers), 65.1 with 1 % of the labels (Tab. 1); 71.7 after fine-tuning with 1 % of
# the labels (Tab. 5).
_base_ = './ijepa_vit-large-p16_8xb256-coslr-600e_in1k.py'

model = dict(
    type='mmpospretrain.StoP',
    neck=dict(type='mmpospretrain.StochasticPredictor', sigma=0.25),
)
