# PhotoShapes for DINOv2 and PosField: two views of 96², four of 48², which are 3 x 3
# patches; half of the paper's eight, for time. Shares of the image and colours as on
# ImageNet; no blur and no solarizing, which would cost half as much again.
_base_ = ['./photoshapes_96_ijepa.py', './dino_augment.py']

global_crop = dict(
    type='mmpospretrain.CropWithBox',
    scale=_base_.img_size,
    crop_ratio_range=(0.32, 1.0),
)
local_crop = dict(global_crop, scale=48, crop_ratio_range=(0.05, 0.32))

train_pipeline = [
    # Boxes are parts of the image, which is the same image at any size.
    dict(type='mmpospretrain.ResizeShortEdge', scale=112),
    dict(
        type='mmpospretrain.MultiCrop',
        num_views=[2, 4],
        transforms=[
            [global_crop, *_base_.mirror_and_colours],
            [local_crop, *_base_.mirror_and_colours],
        ],
    ),
    dict(type='PackInputs', algorithm_keys=('view_boxes', 'view_flipped')),
]
train_dataloader = dict(
    collate_fn=dict(type='mmpospretrain.collate_views'),
    dataset=dict(pipeline=train_pipeline),
)
