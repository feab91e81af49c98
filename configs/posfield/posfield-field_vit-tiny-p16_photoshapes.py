# PosField without masked positions, a small ViT on PhotoShapes: positions follow the
# crop, and all else is as in DINOv2 (the second row of Tab. 3).
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/posfield/posfield-field_vit-tiny-p16_photoshapes.py
#
# Measured here, on 2 CPU cores without a GPU: 5.7 ± 0.9 box AP by Mask R-CNN fine-tuned
# for 300 iterations, 2.7 ± 1.4 from scratch (6 times each; README.md has the commands).
# 10 to 14 minutes beside other trainings, one thread each.
_base_ = './posfield_vit-tiny-p16_photoshapes.py'

model = dict(position_share=0.0)
