# Parts of DINOv2's augmentation: flips and colours, which are BYOL's (Tab. 6), and blur
# of a radius from .1 to 2 pixels. They take images as MMCV reads them, BGR, and so are
# the weights of the channels. OpenCV's colours are Pillow's but for rounding, and
# faster.
mirror_and_colours = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[
            dict(
                type='mmpospretrain.ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.1,
            )
        ],
    ),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.114, 0.587, 0.299),  # of BT.601, as Pillow's
    ),
]
blur = dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf')
