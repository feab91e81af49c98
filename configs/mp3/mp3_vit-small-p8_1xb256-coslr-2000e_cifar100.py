# MP3 ViT-S/8, 2000 epochs of CIFAR-100: 4 x 4 places.
#
# python tools/train.py configs/mp3/mp3_vit-small-p8_1xb256-coslr-2000e_cifar100.py
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: 75.73 top-1 on CIFAR-100, fine-tuned for 400 epochs after 1000
# of pre-training (Fig. 7): --cfg-options train_cfg.max_epochs=1000 \
#     param_scheduler.1.end=1000
_base_ = './mp3_vit-small-p4_1xb256-coslr-2000e_cifar100.py'

model = dict(backbone=dict(patch_size=8))
