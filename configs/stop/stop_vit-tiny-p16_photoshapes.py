# StoP, a small ViT on PhotoShapes.
#
# python -m mmpospretrain.datasets.photoshapes data/photoshapes
# python tools/train.py configs/stop/stop_vit-tiny-p16_photoshapes.py
#
# Measured here, on 2 CPU cores without a GPU: 48.5 top-1 in counting silhouettes, by a
# linear probe of the last four layers; random weights 45.0 (README.md has the command).
# 10 min 30 s beside another training, one thread each.
_base_ = './ijepa_vit-tiny-p16_photoshapes.py'

model = dict(
    type='mmpospretrain.StoP',
    neck=dict(type='mmpospretrain.StochasticPredictor', sigma=0.25),
)
