"""Many crops of an image, and where each of them comes from (DINOv2, PosField).

In a config::

    train_pipeline = [
        dict(
            type='mmpospretrain.MultiCrop',
            num_views=[2, 8],
            transforms=[global_view, local_view],  # each begins with CropWithBox
        ),
        dict(type='PackInputs', algorithm_keys=('view_boxes', 'view_flipped')),
    ]
    train_dataloader = dict(collate_fn=dict(type='mmpospretrain.collate_views'), …)

Letters: B images, V views of an image.
"""

import numpy as np
import torch
from mmpretrain.datasets.transforms import MultiView, RandomResizedCrop
from torch import Tensor

from mmpospretrain.registry import FUNCTIONS, TRANSFORMS


@TRANSFORMS.register_module()
class CropWithBox(RandomResizedCrop):
    """MMPretrain's ``RandomResizedCrop``, which keeps the box that it has cropped.

    Adds ``view_box``: (x1, y1, x2, y2) in the square [0, 1]² of the image before, edges
    of pixels and not their middles. It has to come first: a box is one of the original
    image.
    """

    def rand_crop_params(self, img: np.ndarray) -> tuple[int, int, int, int]:
        """As upstream, whose `transform` keeps to itself what it has drawn."""
        self._drawn = super().rand_crop_params(img)
        return self._drawn

    def transform(self, results: dict) -> dict:
        """Crop, resize, and say what was cropped."""
        rows, cols = results['img'].shape[:2]
        results = super().transform(results)
        top, left, height, width = self._drawn
        box = np.array([left, top, left + width, top + height], dtype=np.float32)
        results['view_box'] = box / np.array([cols, rows] * 2, dtype=np.float32)
        return results


@TRANSFORMS.register_module()
class MultiCrop(MultiView):
    """MMPretrain's ``MultiView``, which keeps where the views come from.

    Adds ``view_boxes`` (V, 4) float32, from :class:`CropWithBox`, and ``view_flipped``
    (V,) bool, whether the view was mirrored from left to right (``RandomFlip``).

    Args:
        transforms: For each kind of view a list of transforms; a :class:`CropWithBox`
            first.
        num_views: How many views of each kind.

    Raises:
        ValueError: If a view was not cropped by :class:`CropWithBox`, or was flipped in
            another direction.
    """

    def transform(self, results: dict) -> dict:
        """Make all views of the image."""
        # The image is cropped first, never changed: all views can start from the same.
        views = [transform(dict(results)) for transform in self.transforms]
        for view in views:
            if 'view_box' not in view:
                raise ValueError(
                    'MultiCrop needs to know where its views come from: begin the '
                    'transforms of each kind with mmpospretrain.CropWithBox'
                )
            if view.get('flip') and view['flip_direction'] != 'horizontal':
                raise ValueError(
                    'views may be flipped from left to right alone, got '
                    f'flip_direction={view["flip_direction"]!r}'
                )
        results['img'] = [view['img'] for view in views]
        results['img_shape'] = views[0]['img_shape']
        results['view_boxes'] = np.stack([view['view_box'] for view in views])
        results['view_flipped'] = np.array([bool(view.get('flip')) for view in views])
        return results


@FUNCTIONS.register_module()
def collate_views(samples: list[dict]) -> dict:
    """Batches of views of one size each, first views first.

    Args:
        samples: Of each image ``inputs``, V views (C, H, W), and a data sample.

    Returns:
        ``inputs``: a list with, for each size of views in their order, (views · B, C,
        H, W): all first views, all second ones, and so on, so that no step has to copy
        them. ``data_samples``: a list of B.

    Raises:
        ValueError: If views of one size are not one after the other.
    """
    sizes: dict[tuple, list[Tensor]] = {}
    last = None
    for views in zip(*(sample['inputs'] for sample in samples), strict=True):
        shape = views[0].shape
        if shape in sizes and shape != last:
            raise ValueError(
                f'views of {tuple(shape)} come before and after others: give MultiCrop '
                'those of one size one after the other, for boxes are in its order'
            )
        sizes.setdefault(shape, []).extend(views)
        last = shape
    return dict(
        inputs=[torch.stack(views) for views in sizes.values()],
        data_samples=[sample['data_samples'] for sample in samples],
    )
