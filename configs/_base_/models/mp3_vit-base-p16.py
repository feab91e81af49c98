# MP3, Sec. 3.2: no positions, a linear head, η = .75 as on ImageNet (Sec. 4.2).
model = dict(
    type='mmpospretrain.MP3',
    mask_ratio=0.75,
    query_ratio=1.0,
    backbone=dict(
        type='mmpospretrain.PositionViT',
        arch='base',
        img_size=224,
        patch_size=16,
        positions='none',
        drop_path_rate=0.1,
    ),
    head=dict(
        type='mmpospretrain.PositionHead',
        depth=0,
        loss=dict(type='mmpospretrain.PositionLoss'),
    ),
    # DeiT's, whose recipe MP3 follows; but MLPs and patches have MMPretrain's and
    # MAE's, Xavier uniform.
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)
