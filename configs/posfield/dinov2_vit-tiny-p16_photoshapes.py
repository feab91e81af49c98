# DINOv2, a small ViT on PhotoShapes.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/posfield/dinov2_vit-tiny-p16_photoshapes.py
#
# Measured here, on 2 CPU cores without a GPU: 6.6 ± 0.5 box AP by Mask R-CNN fine-tuned
# for 300 iterations, 2.7 ± 1.4 from scratch (6 times each; README.md has the commands).
# 10 to 14 minutes beside other trainings, one thread each.
_base_ = [
    '../_base_/models/dinov2_vit-base-p16.py',
    '../_base_/models/vit-tiny.py',
    '../_base_/datasets/photoshapes_96_multicrop.py',
    '../_base_/schedules/adamw_dinov2_100e.py',
    '../_base_/default_runtime.py',
]

# No stochastic depth, as in the other small ViTs. Heads have a 64th of the paper's
# prototypes, an 8th of its width and a 4th of its bottleneck: ours, for time.
model = dict(
    backbone=dict(
        arch=dict(_base_.vit_tiny, _delete_=True),
        img_size=_base_.img_size,
        drop_path_rate=0.0,
    ),
    head=dict(
        num_prototypes=65536 // 64, hidden_dims=2048 // 8, bottleneck_dims=256 // 4
    ),
)
custom_hooks = [*_base_.custom_hooks, _base_.knn]

# 6000 images / batch 32 = 187 iterations an epoch, 8 epochs = 1496 iterations.
max_epochs = 8
warmup_epochs = 0.8  # 10 %, as in the paper
optim_wrapper = dict(optimizer=dict(lr=8e-4))  # of the other small ViTs
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_epochs
param_scheduler[1].begin = warmup_epochs
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=2))
