# I-JEPA as StoP trains it: AdamW, lr 2e-4 → 1e-3 → 1e-6 for batch 2048, 600 epochs. The
# weight decay, .04 → .4, is scheduled by a hook. Warm-up: 15 epochs; the released
# configs of I-JEPA have 40.
max_epochs = 600
warmup_epochs = 15

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04, fused=True),
    accumulative_counts=1,
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'mask_token': dict(decay_mult=0.0),
        },
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=2048)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=2e-4 / 1e-3,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-6 / 1e-3,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
