# PosField, a small ViT on PhotoShapes.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/posfield/posfield_vit-tiny-p16_photoshapes.py
_base_ = [
    './dinov2_vit-tiny-p16_photoshapes.py',
    '../_base_/models/posfield.py',
]

model = _base_.posfield
