"""Transforms of pipelines; importing it registers them."""

from .multi_crop import CropWithBox, MultiCrop, collate_views

__all__ = ['CropWithBox', 'MultiCrop', 'collate_views']
