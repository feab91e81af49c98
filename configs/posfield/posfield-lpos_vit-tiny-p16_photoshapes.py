# PosField without its field, a small ViT on PhotoShapes: positions are those of DINOv2,
# and are masked and predicted (the third row of Tab. 3).
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/posfield/posfield-lpos_vit-tiny-p16_photoshapes.py
_base_ = './posfield_vit-tiny-p16_photoshapes.py'

model = dict(backbone=dict(type='mmpospretrain.PositionViT'))
