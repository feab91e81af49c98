# DropPos, Sec. 3 and the defaults of Sec. 4: γ = γ_pos = .75, σ 1 → 0, τ = .1.
model = dict(
    type='mmpospretrain.DropPos',
    mask_ratio=0.75,
    pos_mask_ratio=0.75,
    temperature=0.1,
    affinity_source='image',
    backbone=dict(
        type='mmpospretrain.PositionViT', arch='base', img_size=224, patch_size=16
    ),
    head=dict(
        type='mmpospretrain.PositionHead',
        decoder_dims=512,
        depth=2,
        num_heads=16,
        loss=dict(type='mmpospretrain.PositionLoss', distance='euclidean'),
    ),
    # MAE's initialisation, which DropPos builds on.
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)

custom_hooks = [
    dict(
        type='mmpospretrain.ScalarScheduleHook',
        target='head.loss_module.sigma',
        start=1.0,
        end=0.0,
    ),
]
