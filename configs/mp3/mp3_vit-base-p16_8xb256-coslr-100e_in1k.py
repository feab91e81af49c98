# MP3 ViT-B/16, 100 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh configs/mp3/mp3_vit-base-p16_8xb256-coslr-100e_in1k.py 8 \
#     --amp
#
# Hardware: the paper measured speed on one A100 (Tab. 2); not run by this project.
# Reported by the paper: 83.0 top-1 on ImageNet-1K, fine-tuned for 150 epochs with
# absolute positions; 81.9 for 300 epochs without positions (Tab. 4).
_base_ = [
    '../_base_/models/mp3_vit-base-p16.py',
    '../_base_/datasets/imagenet_224_deit.py',
    '../_base_/schedules/adamw_deit_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=_base_.img_size))

max_epochs = 100
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
