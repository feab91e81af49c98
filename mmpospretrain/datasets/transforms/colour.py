"""Colours, alike on both stacks."""

from collections.abc import Sequence
from functools import partial

import cv2
import mmcv
import numpy as np
from mmpretrain.datasets import transforms

from mmpospretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ColorJitter(transforms.ColorJitter):
    """MMPretrain's ``ColorJitter`` by OpenCV, for any hue under any NumPy.

    Under NumPy 2, OpenMMLab's mmcv 2.1.0 overflows when it turns the hue back. OneDL's
    mmcv does not; this equals it to the bit.

    Args:
        brightness, contrast, saturation, hue (float | Sequence[float]): As upstream.

    Raises:
        TypeError: If one is neither a number nor a range.
        ValueError: If one is a number below 0.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__(brightness, contrast, saturation, hue, backend='cv2')

    def transform(self, results: dict) -> dict:
        """Change what was drawn, in the order that was drawn."""
        order, *amounts = self._rand_params()
        for index in order:
            if amounts[index] is not None:
                results['img'] = STEPS[index](results['img'], amounts[index])
        return results


def shift_hue(image: np.ndarray, hue: float) -> np.ndarray:
    """Turn the hue of a BGR image by ``hue``, in [-0.5, 0.5] of the circle."""
    hsv = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] += np.uint8(int(hue * 255) % 256)  # and arrays of uint8 wrap around
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL).astype(image.dtype)


STEPS = (
    partial(mmcv.adjust_brightness, backend='cv2'),
    partial(mmcv.adjust_contrast, backend='cv2'),
    partial(mmcv.adjust_color, backend='cv2'),
    shift_hue,
)
