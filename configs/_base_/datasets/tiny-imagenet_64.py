# Images without labels, 64², for MP3: Tiny ImageNet as its zip has it, or any others
# (`--data DIR`). Augmented as imagenet_224_deit.py. Validation takes 64² as
# it is: DeiT's code would enlarge it to 73², only to cut the borders off.
#
# curl -O http://cs231n.stanford.edu/tiny-imagenet-200.zip
# unzip -q tiny-imagenet-200.zip -d data
_base_ = './imagenet_224_deit.py'

img_size = 64  # of the backbone, too

train_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=img_size,
        crop_ratio_range=(0.08, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    *_base_.train_pipeline[1:],
]
val_pipeline = [
    dict(type='mmpospretrain.ResizeShortEdge', scale=img_size),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=512,
    dataset=dict(data_root='data/tiny-imagenet-200', pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(data_root='data/tiny-imagenet-200', pipeline=val_pipeline),
)
test_dataloader = val_dataloader
