# DropPos ViT-B/16, 200 epochs of ImageNet-1K.
#
# bash tools/dist_train.sh \
#     configs/droppos/droppos_vit-base-p16_8xb512-coslr-200e_in1k.py 8 --amp
#
# Hardware: the paper used 64 RTX 2080 Ti (Sec. A.1); not run by this project.
# Reported by the paper: 82.96 top-1 on ImageNet-1K after fine-tuning, 42.1 box AP and
# 37.9 mask AP on COCO, 40.7 mIoU on ADE20K (Tabs. 1, 6); position accuracy 87.83 (S3d).
_base_ = [
    '../_base_/models/droppos_vit-base-p16.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_coslr_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(backbone=dict(img_size=_base_.img_size))

# One kernel for all weights; what it saves is in docs/benchmarks.md.
optim_wrapper = dict(optimizer=dict(fused=True))
