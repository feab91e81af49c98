# CIFAR-100, 32², for MP3, which ignores the labels. At this size DeiT's code shifts
# images by up to 4 pixels (RandomCrop) where it has RandomResizedCrop else, and takes
# them whole in validation; so it is here. It normalises all data by the mean and the
# deviation of ImageNet.
#
# Nothing is downloaded by itself; `download=True` of the data sets would, or
#   mkdir -p data/cifar100
#   curl https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz | \
#       tar -xz -C data/cifar100
_base_ = './imagenet_224_deit.py'

img_size = 32  # of the backbone, too

# The first transform leaves images of CIFAR as they are; others fit in so.
train_pipeline = [
    dict(type='mmpospretrain.ResizeShortEdge', scale=img_size),
    dict(type='RandomCrop', crop_size=img_size, padding=4),
    *_base_.train_pipeline[1:],
]
val_pipeline = [
    dict(type='mmpospretrain.ResizeShortEdge', scale=img_size),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='mmpospretrain.CIFAR100',
        data_root='data/cifar100',
        split='train',
        download=False,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        _delete_=True,
        type='mmpospretrain.CIFAR100',
        data_root='data/cifar100',
        split='test',
        download=False,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
