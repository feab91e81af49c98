# COCO with large scale jitter, 1024²: MMDetection's, but tested at 1024² as ViTDet is.
# The square keeps the patch grid, and with it the positions, of training.
_base_ = 'mmdet::common/lsj-100e_coco-instance.py'

image_size = (1024, 1024)
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='Pad', size=image_size, pad_val=dict(img=(114, 114, 114))),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
