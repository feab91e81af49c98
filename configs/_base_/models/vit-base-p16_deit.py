# A classifier as DeiT trains it: a linear layer reads [CLS]; drop path .1, MixUp,
# CutMix, label smoothing. The numbers are the defaults of DeiT's code.
#
# MP3 has no positions to bring along. Learned ones start at random (Sec. 3.3); others
# are options, model.backbone.positions= sincos (fixed), relative (biases, zero at
# first) or none.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmpospretrain.PositionViT',
        arch='base',
        img_size=224,
        patch_size=16,
        positions='learned',
        out_type='cls_token',
        drop_path_rate=0.1,
        init_cfg=dict(type='mmpospretrain.PretrainedBackbone', checkpoint=None),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    # DeiT's initialisation, for trainings from scratch; what is pre-trained is loaded
    # after it.
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ],
    train_cfg=dict(
        augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
)
