# CIFAR-100 for classification: see cifar100_32.py; with labels, random erasing and
# repeated augmentation: in an epoch, a third of the images, three times each.
_base_ = './cifar100_32.py'

data_preprocessor = dict(type='ClsDataPreprocessor', num_classes=100)
train_pipeline = [
    *_base_.train_pipeline[:-1],
    _base_.random_erasing,
    _base_.train_pipeline[-1],
]
train_dataloader = dict(
    sampler=dict(type='RepeatAugSampler'), dataset=dict(pipeline=train_pipeline)
)
val_evaluator = dict(_delete_=True, type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
