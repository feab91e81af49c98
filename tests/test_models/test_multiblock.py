"""Multi-block masks of I-JEPA: properties over many seeds and grids."""

import math

import pytest
import torch

from mmpospretrain.models.positions import multiblock_ids

GRIDS = [(14, 14), (16, 16), (10, 20), (20, 10), (9, 7)]


def draw(grid, seed, batch_size=8, **options):
    generator = torch.Generator().manual_seed(seed)
    return multiblock_ids(batch_size, grid, generator=generator, **options)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('seed', range(8))
def test_context_and_targets(grid, seed):
    ids = draw(grid, seed)
    num = math.prod(grid)
    batch_size, count = ids.context.shape
    assert (batch_size, count >= 10) == (8, True)
    assert ids.targets.shape[:2] == (8, 4)
    for context, targets in zip(
        ids.context.tolist(), ids.targets.tolist(), strict=True
    ):
        assert context == sorted(set(context))
        assert 0 <= context[0] <= context[-1] < num
        for block in targets:
            assert not set(context) & set(block)
            assert block == sorted(set(block))
            assert 0 <= block[0] <= block[-1] < num
            # The block is a whole rectangle, inside the grid.
            rows = {patch // grid[1] for patch in block}
            cols = {patch % grid[1] for patch in block}
            assert len(rows) * len(cols) == len(block)
            assert max(rows) - min(rows) + 1 == len(rows)
            assert max(cols) - min(cols) + 1 == len(cols)


def sides(block, cols):
    return len({p // cols for p in block}), len({p % cols for p in block})


def test_one_size_for_a_batch_and_places_of_their_own():
    targets = draw((16, 16), 0).targets
    sizes = {sides(block, 16) for image in targets.tolist() for block in image}
    assert len(sizes) == 1
    assert len({tuple(block) for image in targets.tolist() for block in image}) > 8


def test_sizes_are_in_range_and_scale_tells_nothing_of_aspect():
    """On a fine grid, where rounding to patches does not hide it."""
    scales, aspects = [], []
    for seed in range(200):
        rows, cols = sides(draw((60, 60), seed, 1).targets[0, 0].tolist(), 60)
        scales.append(rows * cols / 60**2)
        aspects.append(rows / cols)
    assert 0.14 < min(scales) < 0.16 < 0.19 < max(scales) < 0.21
    assert 0.72 < min(aspects) < 0.8 < 1.4 < max(aspects) < 1.55
    both = torch.corrcoef(torch.tensor([scales, aspects]))
    assert abs(both[0, 1]) < 0.2


def test_places_are_uniform():
    first = torch.cat([draw((14, 14), seed, 64).targets[..., 0] for seed in range(20)])
    rows, cols = first // 14, first % 14
    for places in (rows, cols):  # the lowest and the highest place come up alike
        counts = torch.bincount(places.flatten())
        assert counts.min() > 0
        assert abs(places.float().mean() - (len(counts) - 1) / 2) < 0.5


def test_cutting_the_context_favours_no_place():
    """Cut at the end, contexts would hold the first rows more often than the last."""
    counts = torch.zeros(196)
    for seed in range(100):
        ids = draw((14, 14), seed, 32).context
        counts += torch.bincount(ids.flatten(), minlength=196)
    top, bottom = counts.view(14, 14)[:3].sum(), counts.view(14, 14)[-3:].sum()
    assert abs(top / bottom - 1) < 0.06


def test_reproducible():
    first, again, other = draw((14, 14), 3), draw((14, 14), 3), draw((14, 14), 4)
    assert torch.equal(first.context, again.context)
    assert torch.equal(first.targets, again.targets)
    assert first.context.shape != other.context.shape or not torch.equal(
        first.context, other.context
    )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(target_scale=(1.0, 1.0), target_aspect=(1, 1)), 'fewer or smaller'),
        (dict(min_context=197), 'fewer than min_context=197 of a context of'),
        (dict(target_scale=(0.2, 0.1)), r'target_scale must be .* got \(0.2, 0.1\)'),
        (dict(target_scale=(0.5, 1.5)), r'target_scale must be'),
        (dict(target_aspect=(0, 1)), r'target_aspect must be .* got \(0, 1\)'),
        (dict(context_scale=(0.9, 1.1)), r'context_scale must be'),
    ],
)
def test_impossible_settings(options, message):
    with pytest.raises(ValueError, match=message):
        draw((14, 14), 0, **options)


def test_tiny_grids():
    ids = draw((6, 6), 0, min_context=4)
    assert ids.context.shape[1] >= 4
    assert (
        draw((1, 1), 0, 2, num_targets=1, min_context=0).targets.tolist() == [[[0]]] * 2
    )
