# Parts of DeiT's augmentation: the defaults of its released code, rand-m9-mstd0.5-inc1
# and erasing by noise. They take images as MMCV reads them, BGR, 0 to 255.
rand_augment = dict(
    type='RandAugment',
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_level=9,
    magnitude_std=0.5,
    # The mean of ImageNet, rounded: what turns and shifts leave open.
    hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
)
random_erasing = dict(
    type='RandomErasing',
    erase_prob=0.25,
    mode='rand',
    min_area_ratio=0.02,
    max_area_ratio=1 / 3,
    fill_color=[103.53, 116.28, 123.675],
    fill_std=[57.375, 57.12, 58.395],
)
