# PosField, a small ViT on PhotoShapes.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/posfield/posfield_vit-tiny-p16_photoshapes.py
#
# Measured here, on 2 CPU cores without a GPU: 8.1 ± 0.6 box AP by Mask R-CNN fine-tuned
# for 300 iterations, 2.7 ± 1.4 from scratch (6 times each; README.md has the commands).
# 10 to 14 minutes beside other trainings, one thread each.
_base_ = [
    './dinov2_vit-tiny-p16_photoshapes.py',
    '../_base_/models/posfield.py',
]

model = _base_.posfield
