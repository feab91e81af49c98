# A small DropPos in MMEngine's pure-Python style: types are classes, imported lazily.
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.hooks import (
    CheckpointHook,
    IterTimerHook,
    LoggerHook,
    ParamSchedulerHook,
    RuntimeInfoHook,
)
from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from mmengine.visualization import LocalVisBackend
from mmpretrain.datasets import CenterCrop, PackInputs, RandomFlip, ResizeEdge
from mmpretrain.models import SelfSupDataPreprocessor
from mmpretrain.visualization import UniversalVisualizer
from torch.optim import AdamW

from mmpospretrain.datasets import ImageFolder
from mmpospretrain.engine import PretrainRunner
from mmpospretrain.engine.hooks import KNNHook, StepSeedHook, StrictLoadHook
from mmpospretrain.evaluation import PositionAccuracy
from mmpospretrain.models import DropPos, PositionHead, PositionViT

default_scope = 'mmpretrain'
runner_type = PretrainRunner

data_preprocessor = dict(
    type=SelfSupDataPreprocessor, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
)
model = dict(
    type=DropPos,
    mask_ratio=0.25,
    pos_mask_ratio=0.5,
    temperature=None,
    backbone=dict(
        type=PositionViT,
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=96,
        patch_size=16,
    ),
    head=dict(type=PositionHead, decoder_dims=32, depth=1, num_heads=2),
)
val_pipeline = [
    dict(type=ResizeEdge, scale=96, edge='short'),
    dict(type=CenterCrop, crop_size=96),
    dict(type=PackInputs),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=True),
    collate_fn=dict(type=default_collate),
    dataset=dict(
        type=ImageFolder,
        data_root='data/imagenet',
        data_prefix='train',
        pipeline=[*val_pipeline[:2], dict(type=RandomFlip, prob=0.5), val_pipeline[2]],
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    collate_fn=dict(type=default_collate),
    dataset=dict(
        type=ImageFolder,
        data_root='data/imagenet',
        data_prefix='val',
        pipeline=val_pipeline,
    ),
)
val_evaluator = dict(type=PositionAccuracy)
test_dataloader, test_evaluator = val_dataloader, val_evaluator
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=1)
val_cfg, test_cfg = dict(type=ValLoop), dict(type=TestLoop)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-4))
param_scheduler = [dict(type=CosineAnnealingLR, end=1, convert_to_iter_based=True)]
default_hooks = dict(
    runtime_info=dict(type=RuntimeInfoHook),
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=1),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, interval=1),
)
knn = dict(
    type=ImageFolder, data_root='data/imagenet', with_label=True, pipeline=val_pipeline
)
custom_hooks = [
    dict(type=StepSeedHook),
    dict(type=StrictLoadHook),
    dict(
        type=KNNHook,
        k=1,
        train=dict(**knn, ann_file='labels/train.txt'),
        val=dict(**knn, ann_file='labels/val.txt'),
    ),
]
visualizer = dict(type=UniversalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
