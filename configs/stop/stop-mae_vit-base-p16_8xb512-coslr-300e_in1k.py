# StoP in the decoder of MAE, ViT-B/16, 300 epochs of ImageNet-1K by MAE's recipe.
#
# bash tools/dist_train.sh \
#     configs/stop/stop-mae_vit-base-p16_8xb512-coslr-300e_in1k.py 8 --amp
#
# Reported by the paper: "not successful", without numbers (Sec. 5). Not run by this
# project.
_base_ = [
    'mmpretrain::_base_/models/mae_vit-base-p16.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_coslr_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(neck=dict(type='mmpospretrain.StochasticMAEDecoder', sigma=0.25))
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None

max_epochs = 300
warmup_epochs = 40
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup_epochs
param_scheduler[1].begin = warmup_epochs
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
