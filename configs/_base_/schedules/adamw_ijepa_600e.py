# I-JEPA as StoP trains it: AdamW, lr 2e-4 → 1e-3 → 1e-6 for batch 2048, 600 epochs. The
# weight decay, .04 → .4, is scheduled by a hook. Warm-up: 15 epochs; the released
# configs of I-JEPA have 40.
_base_ = './adamw_coslr_200e.py'

max_epochs = 600
warmup_epochs = 15

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.04, fused=True)
)
auto_scale_lr = dict(base_batch_size=2048)
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 2e-4 / 1e-3
param_scheduler[0].end = warmup_epochs
param_scheduler[1].eta_min = None
param_scheduler[1].eta_min_ratio = 1e-6 / 1e-3
param_scheduler[1].begin = warmup_epochs
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
