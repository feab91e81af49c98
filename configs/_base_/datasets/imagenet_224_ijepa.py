# Images without labels for I-JEPA and StoP: crops alone, not even flips. No validation:
# the loss says little, since its targets move; KNNHook measures the features.
_base_ = './imagenet_224.py'

train_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=_base_.img_size,
        crop_ratio_range=(0.3, 1.0),  # the released configs of I-JEPA
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
