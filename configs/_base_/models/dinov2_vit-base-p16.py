# DINOv2 as PosField builds on it: Tab. 6, Eqs. 3 and 6. What the paper leaves open is
# as in DINOv2's paper or code: Sinkhorn-Knopp, the width and the depth of the heads,
# the student's temperature.
model = dict(
    type='mmpospretrain.DINOv2',
    num_global_views=2,
    content_share=0.5,
    mask_ratio=(0.1, 0.5),
    targets=dict(method='sinkhorn', temperature=0.04),
    student_temperature=0.1,
    koleo_weight=1.0,
    backbone=dict(
        type='mmpospretrain.PositionViT',
        arch='base',
        img_size=224,
        patch_size=16,
        positions='learned',
        drop_path_rate=0.1,
    ),
    # One of these for [CLS], one for patches ("separate heads").
    head=dict(
        type='mmpospretrain.PrototypeHead',
        num_prototypes=65536,
        hidden_dims=2048,
        bottleneck_dims=256,
        num_layers=3,
    ),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)

custom_hooks = [
    dict(
        type='mmpospretrain.TeacherHook',
        teacher=['target_encoder', 'target_heads'],
        student=['backbone', 'heads'],
        start=0.992,
        end=1.0,
        shape='cosine',
    ),
    # The first epoch: the code of DINO and DINOv2.
    dict(type='mmpospretrain.FreezeHook', targets=['heads.*.prototypes'], epochs=1),
    dict(
        type='mmpospretrain.WeightDecayScheduleHook',
        start=0.04,
        end=0.4,
        shape='cosine',
    ),
    # A teacher that says the same of all images, or nothing of any, has collapsed
    # (DINO, Sec. 5.3). Sinkhorn-Knopp spreads targets over the prototypes even where
    # features lie on a line, which is a rank of 1; random weights have 2 to 4. The
    # limits are ours.
    dict(type='mmpospretrain.CollapseWatchHook', name='target_kl', below=0.01),
    dict(type='mmpospretrain.CollapseWatchHook', name='target_entropy', above=0.99),
    dict(type='mmpospretrain.CollapseWatchHook', name='feature_rank', below=1.2),
]
