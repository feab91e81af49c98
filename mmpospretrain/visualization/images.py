"""Images as users name them, ready for a model and for a picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..checks import check_at_least
from ..datasets import read_image
from ..datasets.image_files import list_images


def find_images(sources: list[Path], limit: int) -> list[Path]:
    """Image files, and those in folders, in order.

    Args:
        sources: Image files and folders.
        limit: At most so many, ``--num-images`` of the tools.

    Raises:
        FileNotFoundError: If there is nothing at a source.
        ValueError: If the limit is below 1, or a folder has no image.
    """
    check_at_least('--num-images', limit, 1)
    images = []
    for source in sources:
        if source.is_dir():
            images += [source / name for name in list_images(str(source))[0]]
        elif source.is_file():
            images.append(source)
        else:
            raise FileNotFoundError(f'there is no image or folder {str(source)!r}')
    return images[:limit]


def load_sample(path: Path, pipeline: Callable[[dict], dict]) -> dict:
    """Read an image and run it through a pipeline that ends with ``PackInputs``.

    Raises:
        ValueError: If the file is no image.
    """
    try:
        image = read_image(str(path))
    except Exception as error:  # Pillow's plugins raise nearly anything
        raise ValueError(f'cannot read {path}: {error}') from error
    shape = image.shape[:2]
    return pipeline(dict(img=image, img_path=path, img_shape=shape, ori_shape=shape))


def as_rgb(sample: dict) -> np.ndarray:
    """The image of a sample as the model sees it, (H, W, 3) uint8."""
    rgb = sample['inputs'].flip(0)  # datasets read BGR
    return np.ascontiguousarray(rgb.permute(1, 2, 0))
