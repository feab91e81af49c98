# What PosField adds to DINOv2: parts to put over its model. A field of 50 x 50 samples
# between which it is bicubic (FieldViT), scales from Beta(2, 5), and of the half of the
# views whose content is not masked, the positions, in crosses: Tab. 6, Sec. 3.
posfield = dict(
    type='mmpospretrain.PosField',
    position_share=0.5,
    position_shape='cross',
    scales='beta',
    backbone=dict(type='mmpospretrain.FieldViT'),
)
