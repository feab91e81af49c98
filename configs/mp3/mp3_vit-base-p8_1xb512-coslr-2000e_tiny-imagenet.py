# MP3 ViT-B/8, 2000 epochs of Tiny ImageNet: 8 x 8 places.
#
# python tools/train.py \
#     configs/mp3/mp3_vit-base-p8_1xb512-coslr-2000e_tiny-imagenet.py --amp
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: fine-tuned for 400 epochs, 72.8 top-1 with absolute positions,
# 73.2 with relative ones, 68.2 without (Tab. 3).
_base_ = [
    '../_base_/models/mp3_vit-base-p16.py',
    '../_base_/datasets/tiny-imagenet_64.py',
    '../_base_/schedules/adamw_deit_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(mask_ratio=0.8, backbone=dict(img_size=_base_.img_size, patch_size=8))

max_epochs = 2000
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
