# I-JEPA, a small ViT on PhotoShapes.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/stop/ijepa_vit-tiny-p16_photoshapes.py
#
# Measured here, on 2 CPU cores without a GPU: 46.9 top-1 in counting silhouettes, by a
# linear probe of the last four layers; random weights 45.0 (README.md has the command).
# 10 min 30 s beside another training, one thread each.
_base_ = [
    '../_base_/models/ijepa_vit-base-p16.py',
    '../_base_/models/vit-tiny.py',
    '../_base_/datasets/photoshapes_96_ijepa.py',
    '../_base_/schedules/adamw_ijepa_600e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    min_context=4,  # of 36 patches
    backbone=dict(arch=dict(_base_.vit_tiny, _delete_=True), img_size=_base_.img_size),
    neck=dict(embed_dims=64, depth=2, num_heads=4),
)
custom_hooks = [*_base_.custom_hooks, _base_.knn]

# 6000 images / batch 32 = 187 iterations an epoch, 14 epochs = 2618 iterations.
max_epochs = 14
warmup_epochs = 0.7  # 5 %
optim_wrapper = dict(optimizer=dict(lr=8e-4), clip_grad=dict(max_norm=1.0))
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_epochs
param_scheduler[1].begin = warmup_epochs
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=2))
