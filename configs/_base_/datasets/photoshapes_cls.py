# PhotoShapes for classification, by the largest shape: 1000 labelled images in
# training, all for validation. Images of other sizes are resized and cropped to 112².
data_root = 'data/photoshapes'
img_size = 112  # of the backbone, too
metainfo = dict(classes=('circle', 'square', 'triangle', 'star'))
data_preprocessor = dict(
    num_classes=4,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpospretrain.ResizeShortEdge', scale=img_size),
    dict(type='RandomCrop', crop_size=img_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpospretrain.ResizeShortEdge', scale=img_size),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=False,  # as in pre-training, see StepSeedHook
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='labels/train.txt',
        indices=1000,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='labels/val.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
