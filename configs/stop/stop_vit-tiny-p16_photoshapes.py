# StoP, a small ViT on PhotoShapes.
_base_ = './ijepa_vit-tiny-p16_photoshapes.py'

model = dict(
    type='mmpospretrain.StoP',
    neck=dict(type='mmpospretrain.StochasticPredictor', sigma=0.25),
)
