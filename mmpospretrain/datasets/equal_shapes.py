"""Whether a pipeline gives images of any size one shape, so that they make a batch."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from .image_headers import headers

SIZES = ((96, 128), (2, 2), (3, 400), (400, 3))  # the first is an ordinary one


def check_equal_shapes(
    transforms: Sequence[Callable], paths: Iterable[str] = ()
) -> None:
    """Try a pipeline on drawn images; training draws the same numbers as without.

    Only pipelines that pack inputs are looked at: others make no batches. One that
    fails on an ordinary image too fails for another reason, which reading will show.

    Args:
        transforms: Of the pipeline, after reading.
        paths: Of some images; unless they differ in size, any pipeline will do.

    Raises:
        ValueError: If shapes depend on the size of the image; names the transform.
    """
    try:
        _try_sizes(transforms)
    except ValueError:
        # Broken images are told of when they are read.
        if len({found.size() for found in headers([*paths]) if found}) > 1:
            raise


def _try_sizes(transforms: Sequence[Callable]) -> None:
    with forked_randomness():
        samples = [_drawn(size) for size in SIZES]
        sizing = None  # the last transform that has changed the size of an image
        for transform in transforms:
            shapes = [_shape(sample) for sample in samples]
            for index, size in enumerate(SIZES):
                try:
                    samples[index] = transform(samples[index])
                except Exception as error:
                    if index == 0:
                        return
                    reason = ' '.join(f'{type(error).__name__}: {error}'.split())
                    raise ValueError(
                        f'{_name(transform)} in the pipeline fails on an image of '
                        f'{_pixels(size)} ({reason}). {ADVICE}'
                    ) from error
            if not all(isinstance(sample, dict) for sample in samples):
                return
            if 'inputs' in samples[0]:
                break
            if shapes != [_shape(sample) for sample in samples]:
                sizing = transform
        else:
            return
    shapes = [_shape(sample) for sample in samples]
    for size, shape in zip(SIZES, shapes, strict=True):
        if shape != shapes[0]:
            culprit = f'{_name(sizing)} in the' if sizing else 'the'
            raise ValueError(
                f'{culprit} pipeline makes {shapes[0]} of an image of '
                f'{_pixels(SIZES[0])} but {shape} of one of {_pixels(size)}, and a '
                f'batch needs equal shapes. {ADVICE}'
            )


ADVICE = (
    "Put dict(type='mmpospretrain.ResizeShortEdge', scale=…) with at least the size of "
    'the crop before it; images of that size stay as they are'
)


@contextmanager
def forked_randomness() -> Iterator[None]:
    """What is drawn inside is not missing outside: Python's, NumPy's, PyTorch's CPU."""
    # OpenMMLab's transforms draw from NumPy's global generator.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _drawn(size: tuple[int, int]) -> dict:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return dict(
        img=image, img_shape=size, ori_shape=size, img_path='', sample_idx=0, gt_label=0
    )


def _shape(sample: dict) -> object:
    images = sample['inputs'] if 'inputs' in sample else sample.get('img')
    if isinstance(images, list | tuple):
        return [tuple(image.shape) for image in images]
    return tuple(getattr(images, 'shape', ()))


def _pixels(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]} pixels'


def _name(transform: Callable) -> str:
    return getattr(transform, '__name__', type(transform).__name__)
