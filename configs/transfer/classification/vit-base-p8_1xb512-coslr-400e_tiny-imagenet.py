# Tiny ImageNet, ViT-B/8 fine-tuned end to end: the recipe of MP3 (Sec. 4.2), with
# learned positions. Others: --cfg-options model.backbone.positions= sincos, relative,
# none.
#
# python tools/train.py \
#     configs/transfer/classification/vit-base-p8_1xb512-coslr-400e_tiny-imagenet.py \
#     --pretrained PRETRAINED.pth --amp
#
# Not run by this project. Reported by the paper: 72.8 with absolute positions, 73.2
# with relative ones, 68.2 without (Tab. 3).
_base_ = [
    '../../_base_/deit_transfer.py',
    '../../_base_/datasets/tiny-imagenet_64_cls.py',
]

model = dict(
    backbone=dict(img_size=_base_.img_size, patch_size=8), head=dict(num_classes=200)
)

max_epochs = 400
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
