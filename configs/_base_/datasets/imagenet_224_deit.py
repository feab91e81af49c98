# Images without labels, 224², for MP3: DeiT's crops (its code: 8 to 100 % of the
# image), flips and RandAugment, and nothing else of its augmentation (Sec. 4.2).
_base_ = ['./imagenet_224.py', './deit_augment.py']

train_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=_base_.img_size,
        crop_ratio_range=(0.08, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5),
    _base_.rand_augment,
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
