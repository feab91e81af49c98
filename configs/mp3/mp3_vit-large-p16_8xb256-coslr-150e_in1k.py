# MP3 ViT-L/16, 150 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh configs/mp3/mp3_vit-large-p16_8xb256-coslr-150e_in1k.py 8 \
#     --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: 83.6 top-1 on ImageNet-1K, fine-tuned for 150 epochs (Tab. 4).
_base_ = './mp3_vit-base-p16_8xb256-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='large'))

max_epochs = 150
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
