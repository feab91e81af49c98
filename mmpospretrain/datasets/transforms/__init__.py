"""Transforms of pipelines; importing it registers them."""

from .colour import ColorJitter
from .multi_crop import CropWithBox, MultiCrop, collate_views
from .resize import ResizeShortEdge

__all__ = [
    'ColorJitter',
    'CropWithBox',
    'MultiCrop',
    'ResizeShortEdge',
    'collate_views',
]
