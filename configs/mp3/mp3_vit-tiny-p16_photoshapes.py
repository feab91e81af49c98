# MP3, a small ViT on PhotoShapes. 96² images, 6 x 6 places, chance 2.8 %.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/mp3/mp3_vit-tiny-p16_photoshapes.py
#
# Measured here, on 2 CPU cores without a GPU: of 4000 validation images, whose
# photographs no training image holds, 11.0 % of the patches are put in place at η = 0
# (this training, with the KNNHook off). Optimizer and clip are those of DropPos'
# small ViT, as is doing without stochastic depth.
_base_ = [
    '../_base_/models/mp3_vit-base-p16.py',
    '../_base_/models/vit-tiny.py',
    '../_base_/datasets/photoshapes_96.py',
    '../_base_/schedules/adamw_photoshapes_14e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    # Tried over 14 epochs: after 12, 6.4 % with .25 and 5.5 % with .5, each at its own.
    mask_ratio=0.25,
    backbone=dict(
        arch=dict(_base_.vit_tiny, _delete_=True),
        img_size=_base_.img_size,
        drop_path_rate=0.0,
    ),
)

custom_hooks = [_base_.knn]

max_epochs = 40  # of 187 iterations
warmup_epochs = 2  # 5 %
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_epochs
param_scheduler[1].begin = warmup_epochs
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=4))
