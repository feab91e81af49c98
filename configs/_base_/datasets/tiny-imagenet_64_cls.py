# Tiny ImageNet for classification: see tiny-imagenet_64.py; with labels, random
# erasing and repeated augmentation.
_base_ = './tiny-imagenet_64.py'

data_preprocessor = dict(type='ClsDataPreprocessor', num_classes=200)
train_pipeline = [
    *_base_.train_pipeline[:-1],
    _base_.random_erasing,
    _base_.train_pipeline[-1],
]
train_dataloader = dict(
    sampler=dict(type='RepeatAugSampler'),
    dataset=dict(
        _delete_=True,
        type='mmpospretrain.TinyImageNet',
        data_root='data/tiny-imagenet-200',
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmpospretrain.TinyImageNet',
        data_root='data/tiny-imagenet-200',
        split='val',
        pipeline=_base_.val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
