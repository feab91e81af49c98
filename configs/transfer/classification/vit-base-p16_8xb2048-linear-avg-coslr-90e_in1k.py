# ImageNet-1K, linear probe of a frozen ViT-B/16 by its average-pooled patches, for
# pre-trainings without a [CLS] token (I-JEPA, StoP): MMPretrain's recipe for MAE. The
# last four layers side by side (StoP, Tab. 1):
#   --cfg-options model.backbone.out_indices="[8,9,10,11]" \
#       model.neck.input_features=3072 model.head.in_channels=3072
#
# CONFIG=configs/transfer/classification
# bash tools/dist_train.sh \
#     $CONFIG/vit-base-p16_8xb2048-linear-avg-coslr-90e_in1k.py 8 \
#     --pretrained PRETRAINED.pth
_base_ = './vit-base-p16_8xb2048-linear-coslr-90e_in1k.py'

model = dict(
    backbone=dict(out_type='pooled', with_cls_token=False),
    neck=dict(type='mmpospretrain.ConcatBatchNormNeck'),
)
