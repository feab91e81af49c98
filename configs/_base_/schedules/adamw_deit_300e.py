# DeiT, whose recipe MP3 follows (Sec. 4.2): AdamW, weight decay .05, base lr 5e-4 per
# 512 images, cosine over 300 epochs, 5 of them warm-up. Betas, the ends of the schedule
# and the 5 epochs are the defaults of DeiT's code; its batch is 1024.
_base_ = './adamw_coslr_200e.py'

max_epochs = 300
warmup_epochs = 5

optim_wrapper = dict(optimizer=dict(lr=5e-4, betas=(0.9, 0.999), fused=True))
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 1e-6 / (5e-4 * 1024 / 512)
param_scheduler[0].end = warmup_epochs
param_scheduler[1].eta_min = 1e-5
param_scheduler[1].begin = warmup_epochs
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
