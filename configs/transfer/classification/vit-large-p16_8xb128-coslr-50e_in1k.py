# ImageNet-1K, ViT-L/16 fine-tuned end to end: the recipe of DropPos (Sec. A.1).
#
# bash tools/dist_train.sh \
#     configs/transfer/classification/vit-large-p16_8xb128-coslr-50e_in1k.py 8 \
#     --pretrained PRETRAINED.pth
#
# Not run by this project. Reported by the paper: 85.8 after 800 epochs of DropPos.
_base_ = './vit-base-p16_8xb128-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='large'), head=dict(in_channels=1024))
train_cfg = dict(max_epochs=50)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(T_max=45, end=50)
