# Images without labels, 224², in ImageNet's layout or any other: `--data DIR` points it
# at a folder or a list file. ImageFolder reads the images; pipelines start after that.
img_size = 224  # of the backbone, too

data_preprocessor = dict(
    type='SelfSupDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=img_size,
        crop_ratio_range=(0.2, 1.0),  # as MAE; DropPos (Sec. A.1) names no range
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
val_pipeline = [
    dict(type='mmpospretrain.ResizeShortEdge', scale=256),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=512,
    num_workers=8,
    # Workers start anew each epoch, with seeds that follow from it: see StepSeedHook.
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpospretrain.ImageFolder',
        data_root='data/imagenet',
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmpospretrain.ImageFolder',
        data_root='data/imagenet',
        data_prefix='val',
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpospretrain.PositionAccuracy')
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
