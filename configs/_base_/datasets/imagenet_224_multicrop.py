# Images without labels for DINOv2 and PosField: two views of 224², eight of 96²; 512
# images (Tab. 6 of PosField) on eight GPUs. Shares of the image, and blur of half of
# the local views, are those of DINOv2's code. Of the global views, blur in 100 % and
# 10 %, solarizing of the second in 20 %: Tab. 6 of BYOL; of values from 128 on, as in
# DINOv2's code, which passes the chances to a GaussianBlur(p) that blurs in 1 - p. No
# validation: the losses say little, since their targets move; KNNHook measures the
# features.
_base_ = ['./imagenet_224.py', './dino_augment.py']

global_crop = dict(
    type='mmpospretrain.CropWithBox',
    scale=_base_.img_size,
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
                dict(type='Solarize', thr=256 // 2, prob=0.2),
            ],
            [local_crop, *_base_.mirror_and_colours, dict(_base_.blur, prob=0.5)],
        ],
    ),
    dict(type='PackInputs', algorithm_keys=('view_boxes', 'view_flipped')),
]
train_dataloader = dict(
    batch_size=512 // 8,
    collate_fn=dict(type='mmpospretrain.collate_views'),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
