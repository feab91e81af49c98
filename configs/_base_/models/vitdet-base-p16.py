# ViTDet (Li et al., ECCV 2022) for detectors: parts to put into their model. Windows of
# 14 × 14, drop path .1 and all norms as there; without relative positions, which no
# pre-training brings along.
vitdet = dict(
    _delete_=True,
    type='mmpospretrain.ViTDet',
    arch='base',
    img_size=1024,
    patch_size=16,
    window_size=14,
    final_norm=False,
    drop_path_rate=0.1,
    learnable_pos_embed=True,
    init_cfg=dict(type='mmpospretrain.PretrainedBackbone', checkpoint=None),
)
simple_fpn = dict(
    _delete_=True,
    type='mmpospretrain.SimpleFPN',
    in_channels=768,
    out_channels=256,
    num_outs=5,
)
bbox_head = dict(
    type='Shared4Conv1FCBBoxHead',
    conv_out_channels=256,
    norm_cfg=dict(type='mmpretrain.LN2d'),
)
mask_head = dict(norm_cfg=dict(type='mmpretrain.LN2d'))
fixed_size = dict(
    batch_augments=[dict(type='BatchFixedSizePad', size=(1024, 1024), pad_mask=True)]
)
