"""Boxes and crosses: exact numbers, and the shapes that they have."""

import pytest
import torch

from mmpospretrain.models.positions import box_mask, cross_mask

GRIDS = [(14, 14), (7, 16), (6, 6), (1, 9)]


@pytest.mark.parametrize('mask', [box_mask, cross_mask])
@pytest.mark.parametrize('grid_size', GRIDS)
def test_exactly_as_many_as_wanted(mask, grid_size):
    num = grid_size[0] * grid_size[1]
    counts = torch.arange(num + 1)
    found = mask(counts, grid_size, torch.Generator().manual_seed(0))
    assert found.dtype == torch.bool
    assert found.shape == (num + 1, num)
    assert torch.equal(found.sum(1), counts)


@pytest.mark.parametrize('mask', [box_mask, cross_mask])
def test_reproducible_and_different(mask):
    counts = torch.full((8,), 60)
    first, again = (
        mask(counts, (14, 14), torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert len({tuple(row.tolist()) for row in first}) == 8


def test_a_cross():
    """27 patches of a 14 x 14 grid are one row and one column, and no others."""
    found = cross_mask(torch.full((50,), 27), (14, 14)).view(50, 14, 14)
    rows, cols = found.all(2), found.all(1)
    assert torch.equal(rows.sum(1), torch.ones(50).long())
    assert torch.equal(cols.sum(1), torch.ones(50).long())
    assert torch.equal(found, rows[:, :, None] | cols[:, None, :])


def test_crosses_and_a_part_of_one():
    """Whole rows and columns, but for what the last one lacks."""
    found = cross_mask(torch.full((200,), 80), (14, 14)).view(200, 14, 14)
    rows, cols = found.all(2), found.all(1)
    whole = rows[:, :, None] | cols[:, None, :]
    rest = found & ~whole
    for image in rest:  # lies in one row and one column
        without_row, without_col = image.clone(), image.clone()
        without_row[image.sum(1).argmax()] = False
        without_col[:, image.sum(0).argmax()] = False
        in_a_col, in_a_row = without_row.any(0).sum(), without_col.any(1).sum()
        assert min(in_a_col, in_a_row) <= 1
    assert (rows.sum(1) >= 2).float().mean() > 0.9


def test_every_place_is_masked_as_often():
    """Nearly: what is cut is at the top or at the bottom. Boxes prefer the middle."""
    generator = torch.Generator().manual_seed(0)
    found = cross_mask(torch.full((20000,), 60), (14, 14), generator)
    share = found.float().mean(0)
    torch.testing.assert_close(share, torch.full((196,), 60 / 196), atol=0.03, rtol=0)


def test_boxes_hang_together():
    """A patch's neighbours share its fate far more often than by chance."""
    found = box_mask(torch.full((500,), 60), (14, 14)).view(500, 14, 14)
    same = (found[:, 1:] == found[:, :-1]).float().mean()
    chance = (60 / 196) ** 2 + (136 / 196) ** 2
    assert same > chance + 0.2


def test_a_single_box():
    """Its size is at most what is wanted, so the first is never cut."""
    found = box_mask(torch.full((500,), 40), (14, 14)).view(500, 14, 14)
    assert not found.all(2).all(1).any()
    boxes = [m for m in found if m.any(1).sum() * m.any(0).sum() == m.sum()]
    assert boxes  # some images have one box and no more
