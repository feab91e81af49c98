# DINOv2 ViT-S/16 on one GPU, 100 epochs of ImageNet-1K, batch 128 in place of 512.
#
# python tools/train.py \
#     configs/posfield/dinov2_vit-small-p16_1xb128-coslr-100e_in1k.py --amp
#
# Learning rate: 2e-3 · √(128 / 1024) = 7.07e-4. Not in the paper; not run by this
# project.
_base_ = './dinov2_vit-small-p16_8xb64-coslr-100e_in1k.py'

train_dataloader = dict(batch_size=128)
