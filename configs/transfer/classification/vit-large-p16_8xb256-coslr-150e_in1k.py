# ImageNet-1K, ViT-L/16 fine-tuned end to end: the recipe of MP3 (Sec. 4.2).
#
# bash tools/dist_train.sh \
#     configs/transfer/classification/vit-large-p16_8xb256-coslr-150e_in1k.py 8 \
#     --pretrained PRETRAINED.pth --amp
#
# Not run by this project. Reported by the paper: 83.6 after 150 epochs of MP3 (Tab. 4).
_base_ = './vit-base-p16_8xb256-coslr-150e_in1k.py'

model = dict(backbone=dict(arch='large'), head=dict(in_channels=1024))
