"""The positions of a pre-training, fitted to the grid of another backbone.

Letters: P prefix tokens ([CLS] or none), N patches, F samples of a field along each
side, D embedding width.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from .trained_config import backbone_options

# PosField's. The `pos_embed` beside it, (1, P, D), is that of prefix tokens alone.
FIELD = 'field.samples'
ASK_GRID = (
    'give the grid that it was trained with, init_cfg.source_grid=(rows, cols), or '
    '--source-grid of tools/export_model.py'
)


def fit_positions(
    weights: Mapping[str, Tensor],
    module: nn.Module,
    checkpoint: Mapping[str, Any],
    source_grid: tuple[int, int] | None,
    name: str,
    square: bool = False,
) -> tuple[dict[str, Tensor], list[str]]:
    """Make the positions among the weights of a backbone those of ``module``.

    An embedding is resampled to its grid, a field sampled on it; a module with a field
    of its own gets the field. The position of [CLS] is kept if it has a [CLS].

    Args:
        weights: Of the backbone, as in the checkpoint but for the prefix of their keys.
        module: It is left alone. If it has no ``pos_embed``, so are the weights.
        checkpoint: The config inside may tell the grid, and the mode of the field.
        source_grid: ``(rows, cols)`` of the embedding; before what the config tells.
        name: Of the checkpoint, for errors.
        square: Whether who writes such checkpoints knows square grids alone.

    Returns:
        The weights, their ``pos_embed`` (1, P + N, D), and what was done.

    Raises:
        ValueError: If the embedding has another grid, or may have one of several; if
            the samples of the field are not (F, F, D), or its mode is unknown.
    """
    weights = dict(weights)
    target = getattr(module, 'grid_size', getattr(module, 'patch_resolution', None))
    if target is None or getattr(module, 'pos_embed', None) is None:
        return weights, []
    if FIELD in weights:  # without [CLS], it may be alone
        nothing = weights[FIELD].new_zeros(1, 0, weights[FIELD].shape[-1])
        weights.setdefault('pos_embed', nothing)
    if 'pos_embed' not in weights:
        return weights, []
    num_prefix = int('cls_token' in weights)
    prefix, patches = weights['pos_embed'].tensor_split([num_prefix], dim=1)
    cfg = backbone_options(checkpoint)
    if FIELD in module.state_dict():
        patches, notes = patches[:, :0], []
    elif FIELD in weights:
        mode = cfg.get('field_mode', 'bicubic')
        patches, notes = _sample(weights.pop(FIELD), target, mode, name)
    else:
        mode = getattr(module, 'interpolate_mode', 'bicubic')
        grid = source_grid or trained_grid(cfg)
        if grid is None:
            grid = _only_grid(patches.shape[1], (1, 1) if square else target, name)
        patches, notes = _resample(patches, grid, target, mode, name)
    prefix = prefix[:, : getattr(module, 'num_extra_tokens', 1)]
    weights['pos_embed'] = torch.cat((prefix, patches), dim=1)
    return weights, notes


def possible_grids(number: int, like: tuple[int, int]) -> list[tuple[int, int]]:
    """Grids of so many patches that are square, or have the proportions of ``like``."""
    common = math.gcd(*like)
    grids = []
    for rows, cols in ((1, 1), (like[0] // common, like[1] // common)):
        scale = math.isqrt(number // (rows * cols))
        if rows * cols * scale**2 == number:
            grids.append((rows * scale, cols * scale))
    return [*dict.fromkeys(grids)]


def _only_grid(number: int, like: tuple[int, int], name: str) -> tuple[int, int]:
    """The grid of an embedding that does not tell it: a square, if nothing else may be.

    Raises:
        ValueError: If it is no square, or may as well have the proportions of ``like``.
    """
    grids = possible_grids(number, like)
    if len(grids) == 1 and grids[0][0] == grids[0][1]:
        return grids[0]
    side = math.isqrt(number)
    what = (
        f'which may be {" or ".join(map(_by, grids))}'
        if len(grids) > 1
        else f'which are no {_by((side, side))}'
    )
    raise ValueError(
        f'{name} has a position embedding of {number} patches, {what}: {ASK_GRID}'
    )


def _resample(
    patches: Tensor,
    grid: tuple[int, int],
    target: tuple[int, int],
    mode: str,
    name: str,
) -> tuple[Tensor, list[str]]:
    """Positions (1, N, D) of a grid on another one."""
    number = patches.shape[1]
    if math.prod(grid) != number:
        raise ValueError(
            f'{name} has a position embedding of {number} patches, which are no '
            f'{_by(grid)}: {ASK_GRID}'
        )
    notes = [f'pos_embed resampled {_by(grid)} -> {_by(target)}']
    patches = resize_pos_embed(patches, grid, target, mode, num_extra_tokens=0)
    return patches, notes if tuple(grid) != tuple(target) else []


def _sample(
    samples: Tensor, target: tuple[int, int], mode: str, name: str
) -> tuple[Tensor, list[str]]:
    """Positions (1, N, D) from the samples (F, F, D) of a field."""
    from mmpospretrain.models.positions import PositionField  # models import the zoo

    if samples.ndim != 3 or samples.shape[0] != samples.shape[1]:
        raise ValueError(
            f'{name} has {FIELD} of shape {tuple(samples.shape)}, which is no field: '
            "a FieldViT's has (F, F, D)"
        )
    size, _, width = samples.shape
    with torch.device('meta'):  # loading draws no random numbers
        field = PositionField(width, size, mode)
    field.load_state_dict(dict(samples=samples), assign=True)
    with torch.no_grad():
        positions = field.pos_embed(target)
    return positions, [
        f'pos_embed sampled from the {size}x{size} field on {_by(target)} ({mode})'
    ]


def _by(grid: tuple[int, int]) -> str:
    return 'x'.join(map(str, grid))


def trained_grid(cfg: Mapping[str, Any]) -> tuple[int, int] | None:
    """The grid of a backbone with such a config, if it says."""
    try:
        size, patch = cfg['img_size'], cfg['patch_size']
        rows, cols = (size, size) if isinstance(size, int) else size
        return rows // patch, cols // patch
    except (KeyError, TypeError, ValueError):
        return None
