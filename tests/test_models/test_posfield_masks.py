"""Who is masked in PosField: in content or in position, how much, in which shape."""

import math

import numpy as np
import pytest
import torch
from crops import FIELD, build

from mmpospretrain.models import PosField

KINDS = ('content', 'position')


def make(**kwargs) -> PosField:
    return build('PosField', FIELD, **kwargs)


@pytest.mark.parametrize('num_views', [2, 8, 9])
def test_no_view_is_masked_twice(num_views):
    """Half of the views in content, half in position; each as often as any other."""
    model = make()
    generator = torch.Generator().manual_seed(0)
    draws = [model.draw_masks(num_views, (6, 4), generator) for _ in range(200)]
    content, position = (
        torch.stack([draw[kind].any(1) for draw in draws]) for kind in KINDS
    )  # (200, V·B)
    assert torch.equal(content, ~position)
    counts = content.sum(1)
    assert counts.min() == num_views // 2
    assert counts.max() == num_views - num_views // 2
    for share in content.double().mean(0):
        assert share == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(200))
    assert content.double().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize('num_images', [1, 4, 5])
def test_no_image_is_masked_twice(num_images):
    """As footnote 3 may be read: both views of an image by the same lot."""
    model = make(masking_unit='image')
    generator = torch.Generator().manual_seed(0)
    draws = [model.draw_masks(2 * num_images, (6, 4), generator) for _ in range(200)]
    masks = {kind: torch.stack([draw[kind] for draw in draws]) for kind in KINDS}
    content, position = (masks[kind].any(2).unflatten(1, (2, -1)) for kind in KINDS)
    assert torch.equal(content, ~position)
    assert torch.equal(content[:, 0], content[:, 1])  # (200, B)
    counts = content[:, 0].sum(1)
    assert counts.min() == num_images // 2
    assert counts.max() == num_images - num_images // 2
    for share in content[:, 0].double().mean(0):
        assert share == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(200))
    for mask in masks.values():  # nor are they masked in the same places
        first, second = mask.unflatten(1, (2, -1)).unbind(1)  # (200, B, N)
        hidden = first.any(2)
        assert (first != second).any(2)[hidden].double().mean() > 0.9


@pytest.mark.parametrize(
    ('content', 'position', 'expected'),
    [
        (1.0, 0.0, (8, None)),
        (0.0, 1.0, (0, 8)),
        (0.25, 0.75, (2, 6)),
        (0.5, 0.25, (4, 2)),
    ],
)
def test_shares(content, position, expected):
    model = make(content_share=content, position_share=position)
    for _ in range(20):
        masks = model.draw_masks(8, (6, 4))
        views = [masks[k].any(1).sum().item() if k in masks else None for k in KINDS]
        assert (*views,) == expected


@pytest.mark.parametrize('shape', ['cross', 'box'])
@pytest.mark.parametrize('ratio', [0.1, 0.37, 0.5])
def test_exactly_as_many_positions(ratio, shape):
    model = make(mask_ratio=(ratio, ratio), position_shape=shape)
    mask = model.draw_masks(10, (6, 4))['position']
    assert mask.sum(1).sort().values.tolist() == [0] * 5 + [round(ratio * 24)] * 5


def is_crosses(mask: np.ndarray) -> bool:
    """Are they whole rows and columns, and at most one cross that is cut?"""
    rest = mask.copy()
    rest[mask.all(1)] = False
    rest[:, mask.all(0)] = False
    left = np.argwhere(rest)
    return any(
        all(r == row or c == col for r, c in left)
        for row, col in np.ndindex(mask.shape)
    )


@pytest.mark.parametrize('grid_size', [(14, 14), (6, 10)])
def test_shapes(grid_size):
    """Crosses for positions, boxes for content, or for both."""
    crosses = {}
    for shape in ('cross', 'box'):
        model = make(position_shape=shape, mask_ratio=(0.3, 0.5))
        masks = model.draw_masks(60, grid_size, torch.Generator().manual_seed(0))
        for kind in KINDS:
            views = masks[kind][masks[kind].any(1)].unflatten(1, grid_size).numpy()
            assert len(views) == 30
            crosses[shape, kind] = np.mean([is_crosses(view) for view in views])
    assert crosses.pop(('cross', 'position')) == 1
    assert all(share < 0.3 for share in crosses.values()), crosses
