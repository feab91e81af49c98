"""Small images whose tone tells their number."""

from PIL import Image


def save_images(folder, number, suffix='.png'):
    """Number ``i`` is grey of tone ``i``."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        Image.new('RGB', (8, 6), (index,) * 3).save(folder / f'{index:03d}{suffix}')
    return folder


def break_images(folder, *indices):
    for index in indices:
        (folder / f'{index:03d}.png').write_bytes(b'')


def get_tone(data):
    """Transform: the sample is the tone of the image, which tells its number."""
    return int(data['img'][0, 0, 0])
