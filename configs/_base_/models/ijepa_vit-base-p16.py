# I-JEPA as StoP builds on it: four target blocks, a predictor of six blocks, 384 wide.
model = dict(
    type='mmpospretrain.IJEPA',
    num_targets=4,
    target_scale=(0.15, 0.2),
    target_aspect=(0.75, 1.5),
    context_scale=(0.85, 1.0),
    min_context=10,
    backbone=dict(
        type='mmpospretrain.PositionViT',
        arch='base',
        img_size=224,
        patch_size=16,
        with_cls_token=False,
    ),
    neck=dict(
        type='mmpospretrain.LatentPredictor', embed_dims=384, depth=6, num_heads=12
    ),
    # The paper names no initialisation. This one holds for attention and for all of the
    # predictor. What the backbone sets itself comes after. Its FFNs are Xavier-uniform
    # (MMPretrain's TransformerEncoderLayer.init_weights): √(2 / (inputs + outputs)) is
    # .023 in ViT-B, .020 in ViT-L, .018 in ViT-H, .056 in the tiny ViT of PhotoShapes.
    # So is its patch projection (PositionViT.init_weights): .036 in ViT-B.
    init_cfg=[
        dict(type='TruncNormal', layer=['Linear', 'Conv2d'], std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
)

custom_hooks = [
    dict(
        type='mmpospretrain.TeacherHook',
        teacher='target_encoder',
        student='backbone',
        start=0.996,
        end=1.0,
    ),
    dict(
        type='mmpospretrain.WeightDecayScheduleHook',
        start=0.04,
        end=0.4,
        shape='cosine',
    ),
    # 0 when the teacher's features no longer depend on the image. Measured with the
    # tiny ViT on PhotoShapes: .84 at first, .71 after 400 iterations of I-JEPA, batch
    # 32; .87, .79, .53, .45, .43, .44 after 0, 2, … 10 epochs of StoP, 512 images.
    dict(type='mmpospretrain.CollapseWatchHook', name='target_std', below=0.1),
]
