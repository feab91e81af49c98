# PhotoShapes, 112² cropped to 96². Make it with
#   python -m mmpospretrain.datasets.photoshapes data/photoshapes
# Images of any other size (`--data DIR`) are resized to 112 pixels first.
_base_ = './imagenet_224.py'

img_size = 96  # of the backbone, too

train_pipeline = [
    dict(type='mmpospretrain.ResizeShortEdge', scale=112),
    dict(type='RandomCrop', crop_size=img_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
val_pipeline = [
    dict(type='mmpospretrain.ResizeShortEdge', scale=112),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(data_root='data/photoshapes', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    dataset=dict(data_root='data/photoshapes', pipeline=val_pipeline),
)
test_dataloader = val_dataloader

# Is it learning? How many silhouettes do the 20 most similar of 1000 images have?
# Labels serve this measure alone.
knn = dict(
    type='mmpospretrain.KNNHook',
    train=dict(
        type='mmpospretrain.ImageFolder',
        with_label=True,
        data_root='data/photoshapes',
        ann_file='labels/count_train.txt',
        indices=1000,
        pipeline=val_pipeline,
    ),
    val=dict(
        type='mmpospretrain.ImageFolder',
        with_label=True,
        data_root='data/photoshapes',
        ann_file='labels/count_val.txt',
        pipeline=val_pipeline,
    ),
    interval=7,
)
