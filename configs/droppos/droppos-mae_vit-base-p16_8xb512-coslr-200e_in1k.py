# DropPos beside MAE's pixel reconstruction, 0.05 · L_pos + L_mae: the `multi_task`
# of the released code.
#
# bash tools/dist_train.sh \
#     configs/droppos/droppos-mae_vit-base-p16_8xb512-coslr-200e_in1k.py 8 --amp
#
# Not in the paper, and not run by this project.
_base_ = './droppos_vit-base-p16_8xb512-coslr-200e_in1k.py'

model = dict(
    type='mmpospretrain.DropPosMAE',
    position_weight=0.05,
    # MAE's decoder and its normalised pixel targets.
    pixel_decoder=dict(decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16),
    pixel_head=dict(
        norm_pix=True, loss=dict(type='PixelReconstructionLoss', criterion='L2')
    ),
)
