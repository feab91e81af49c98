# Images without labels for DINOv2 and PosField: two views of 224², eight of 96². Shares
# of the image and chances of blur and solarizing are those of DINOv2's code. No
# validation: the losses say little, since their targets move; KNNHook measures the
# features.
_base_ = ['./imagenet_224.py', './dino_augment.py']

global_crop = dict(
    type='mmpospretrain.CropWithBox',
    scale=224,
    crop_ratio_range=(0.32, 1.0),
    backend='pillow',
    interpolation='bicubic',
)
local_crop = dict(global_crop, scale=96, crop_ratio_range=(0.05, 0.32))

train_pipeline = [
    dict(
        type='mmpospretrain.MultiCrop',
        num_views=[1, 1, 8],
        transforms=[
            [global_crop, *_base_.mirror_and_colours, dict(_base_.blur, prob=1.0)],
            [
                global_crop,
                *_base_.mirror_and_colours,
                dict(_base_.blur, prob=0.1),
                dict(type='Solarize', thr=128, prob=0.2),
            ],
            [local_crop, *_base_.mirror_and_colours, dict(_base_.blur, prob=0.5)],
        ],
    ),
    dict(type='PackInputs', algorithm_keys=('view_boxes', 'view_flipped')),
]
train_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='mmpospretrain.collate_views'),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
