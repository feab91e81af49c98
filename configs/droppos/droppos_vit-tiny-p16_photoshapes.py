# DropPos, a small ViT on PhotoShapes: the demo. 96² images, 6 x 6 places, chance 2.8 %.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/droppos/droppos_vit-tiny-p16_photoshapes.py
#
# Measured here, on 2 CPU cores without a GPU, by `make demo`: 6 min 43 s; of the
# dropped positions 23.3 % are found at these ratios, on validation photographs that no
# training image holds, and 15.0 % on average over the 16 cases of eval_positions.py.
_base_ = [
    '../_base_/models/droppos_vit-base-p16.py',
    '../_base_/models/vit-tiny.py',
    '../_base_/datasets/photoshapes_96.py',
    '../_base_/schedules/adamw_photoshapes_14e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    # Of this project. Six rows of six patches carry too little to spare: the paper's
    # ratios stay at chance here. A light head, and no second pass for the affinity,
    # keep it to minutes.
    mask_ratio=0.25,
    pos_mask_ratio=0.5,
    temperature=None,
    backbone=dict(arch=dict(_base_.vit_tiny, _delete_=True), img_size=_base_.img_size),
    head=dict(decoder_dims=128, depth=1, num_heads=4),
)

custom_hooks = [*_base_.custom_hooks, _base_.knn]

default_hooks = dict(checkpoint=dict(interval=2))
