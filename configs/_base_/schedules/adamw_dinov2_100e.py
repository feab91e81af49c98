# DINOv2 as PosField trains it (Tab. 6): AdamW, lr 2e-3 · √(batch / 1024), 100 epochs,
# 10 of them warm-up, weight decay .04 → .4 (scheduled by a hook), batch 512. Betas, the
# rule of the square root, 1e-6 at the end and gradients clipped at 3 are of DINOv2's
# code; it also lets positions and tokens decay, which no config of this suite does.
_base_ = './adamw_coslr_200e.py'

max_epochs = 100

optim_wrapper = dict(
    optimizer=dict(lr=2e-3, betas=(0.9, 0.999), weight_decay=0.04, fused=True),
    clip_grad=dict(max_norm=3.0),
    paramwise_cfg=dict(
        custom_keys={
            'field.samples': dict(decay_mult=0.0),
            '.gamma': dict(decay_mult=0.0),  # LayerScale, if any: DINOv2's code
        }
    ),
)
auto_scale_lr = dict(base_batch_size=1024, rule='sqrt')
param_scheduler = _base_.param_scheduler
param_scheduler[1].eta_min = 1e-6
param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
