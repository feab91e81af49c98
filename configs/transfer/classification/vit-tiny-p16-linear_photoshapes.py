# PhotoShapes, the class of the largest shape: a linear probe of a small, frozen ViT.
_base_ = './vit-tiny-p16_photoshapes.py'

model = dict(
    backbone=dict(out_type='cls_token', final_norm=True, frozen_stages=4),
    neck=dict(type='ClsBatchNormNeck', input_features=128),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.0),
)
