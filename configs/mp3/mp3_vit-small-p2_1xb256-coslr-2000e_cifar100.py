# MP3 ViT-S/2, 2000 epochs of CIFAR-100: 16 x 16 places.
#
# python tools/train.py configs/mp3/mp3_vit-small-p2_1xb256-coslr-2000e_cifar100.py
#
# Hardware: not named by the paper; not run by this project.
# Reported by the paper: 85.06 top-1 on CIFAR-100, fine-tuned for 400 epochs after 1000
# of pre-training (Fig. 7): --cfg-options train_cfg.max_epochs=1000 \
#     param_scheduler.1.end=1000
_base_ = './mp3_vit-small-p4_1xb256-coslr-2000e_cifar100.py'

model = dict(backbone=dict(patch_size=2))
