"""Ideas that the four papers share, one noun per file."""

from .field import FieldPlaces, PositionField, draw_scales, move_views, patch_centres
from .grid import (
    GridSize,
    grid_coordinates,
    grid_distance,
    sincos_pos_embed,
    to_grid_size,
)
from .masking import (
    BlockIds,
    check_multiblock,
    gather_blocks,
    gather_tokens,
    multiblock_ids,
    num_kept,
    random_mask,
    shuffle_ids,
)
from .noise import correlated_noise
from .relative import RelativePositionBias
from .shaped_masks import box_mask, cross_mask

__all__ = [
    'BlockIds',
    'FieldPlaces',
    'GridSize',
    'PositionField',
    'RelativePositionBias',
    'box_mask',
    'check_multiblock',
    'correlated_noise',
    'cross_mask',
    'draw_scales',
    'gather_blocks',
    'gather_tokens',
    'grid_coordinates',
    'grid_distance',
    'move_views',
    'multiblock_ids',
    'num_kept',
    'patch_centres',
    'random_mask',
    'shuffle_ids',
    'sincos_pos_embed',
    'to_grid_size',
]
