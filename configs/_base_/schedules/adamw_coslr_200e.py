# DropPos, Sec. A.1: AdamW, β = (.9, .95), weight decay .05, base lr 1.5e-4 per 256
# images, cosine over 200 epochs after 10 of warm-up, batch 4096 in all. The learning
# rate follows the batch of an optimizer step, whatever it is made of:
#   batch per GPU × GPUs × optim_wrapper.accumulative_counts
max_epochs = 200
warmup_epochs = 10

optim_wrapper = dict(
    type='OptimWrapper',
    # Runs that began without it go on with DefaultOptimWrapperConstructor.
    constructor='mmpospretrain.MergedGroupsConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
    accumulative_counts=1,
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0),
            'register_tokens': dict(decay_mult=0.0),
            'mask_token': dict(decay_mult=0.0),
        },
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,  # as MMPretrain's MAE; the paper gives no start
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=10)
