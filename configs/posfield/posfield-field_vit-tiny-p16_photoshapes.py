# PosField without masked positions, a small ViT on PhotoShapes: positions follow the
# crop, and all else is as in DINOv2 (the second row of Tab. 3).
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/posfield/posfield-field_vit-tiny-p16_photoshapes.py
_base_ = './posfield_vit-tiny-p16_photoshapes.py'

model = dict(position_share=0.0)
