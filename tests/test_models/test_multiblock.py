"""Multi-block masks of I-JEPA: properties over many seeds and grids."""

import math

import pytest
import torch

from mmpospretrain.models.positions import multiblock_ids
from mmpospretrain.models.positions.masking import (
    TRIAL_DRAWS,
    block_size,
    check_multiblock,
)

GRIDS = [(14, 14), (16, 16), (10, 20), (20, 10), (9, 7)]
BLOCKS = dict(  # as in the configs
    num_targets=4,
    target_scale=(0.15, 0.2),
    target_aspect=(0.75, 1.5),
    context_scale=(0.85, 1.0),
    min_context=10,
)


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


def context_box(grid, seed, **options):
    """Rows and columns of the context block: one target of a patch hides no side."""
    one_patch = dict(num_targets=1, target_scale=(1e-6, 1e-6), min_context=1)
    ids = draw(grid, seed, 1, **{**one_patch, **options})
    assert ids.targets.shape == (1, 1, 1)
    box = [
        int(side.max() - side.min()) + 1
        for side in (ids.context // grid[1], ids.context % grid[1])
    ]
    assert ids.context.shape[1] in (math.prod(box), math.prod(box) - 1)
    return box


def test_the_context_is_a_square_of_its_share():
    """Of every share in the range, on a grid so fine that rounding does not hide it."""
    boxes = [context_box((60, 60), s, context_scale=(0.3, 0.6)) for s in range(60)]
    assert all(rows == cols for rows, cols in boxes)
    shares = [rows * cols / 60**2 for rows, cols in boxes]
    assert 0.29 < min(shares) < 0.33
    assert 0.57 < max(shares) < 0.61


WIDE_AND_TALL = [(10, 20), (20, 10), (8, 32), (32, 8), (4, 32), (9, 7), (1, 40)]


@pytest.mark.parametrize('grid', WIDE_AND_TALL)
def test_the_context_keeps_its_share_on_any_grid(grid):
    """A square has no room; up to half a patch at each side is rounding."""
    rounding = 0.5 * sum(grid) / math.prod(grid)
    boxes = [context_box(grid, seed) for seed in range(40)]
    shares = [rows * cols / math.prod(grid) for rows, cols in boxes]
    assert 0.85 - rounding <= min(shares)
    assert max(shares) > 0.92
    for box in boxes:
        # A side is shorter than the other only where the grid is.
        assert box[0] == box[1] or max(box) > min(box) == min(grid)


@pytest.mark.parametrize('grid', WIDE_AND_TALL)
@pytest.mark.parametrize('scale', [0.15, 0.2, 0.5])
@pytest.mark.parametrize('aspect', [0.75, 1.0, 1.5])
def test_targets_keep_their_share_on_any_grid(grid, scale, aspect):
    rows, cols = block_size(grid, scale, aspect)
    rounding = 0.5 * (rows + cols) + 0.25
    assert abs(rows * cols - scale * math.prod(grid)) <= rounding
    if math.sqrt(scale * math.prod(grid) * 1.5) <= min(grid):  # there is room
        assert (rows - 0.5) / (cols + 0.5) <= aspect <= (rows + 0.5) / (cols - 0.5)


@pytest.mark.parametrize(
    ('options', 'size'),
    [
        (((8, 32), 0.85, 1.0), (8, 27)),  # .85 · 256 / 8 = 27.2
        (((32, 8), 0.85, 1.0), (27, 8)),
        (((10, 20), 1.0, 1.0), (10, 20)),
        (((4, 32), 0.2, 1.5), (4, 6)),  # 25.6 / 4 = 6.4
        (((14, 14), 0.2, 1.5), (8, 5)),  # √(39.2 · 1.5) = 7.7, √(39.2 / 1.5) = 5.1
        (((14, 14), 0.9, 1.5), (14, 13)),  # 176.4 / 14 = 12.6
        (((14, 14), 1e-6, 1.0), (1, 1)),
    ],
)
def test_block_size(options, size):
    assert block_size(*options) == size


@pytest.mark.parametrize(
    ('seed', 'target', 'patches', 'total'),
    [
        (0, (7, 5), 58, 147454),
        (1, (6, 6), 67, 169781),
        (2, (6, 6), 71, 158232),
        (3, (5, 6), 64, 141015),
    ],
)
def test_square_grids_draw_what_they_always_did(seed, target, patches, total):
    """Measured before blocks made up for sides that a grid cuts short."""
    ids = draw((14, 14), seed)
    assert ids.target_size == target
    assert ids.context.shape[1] == patches
    assert int(ids.context.sum() + ids.targets.sum()) == total


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


BAD_OPTIONS = [
    (dict(num_targets=0), 'num_targets must be at least 1, got 0'),
    (dict(num_targets=-1), 'num_targets must be at least 1, got -1'),
    (dict(min_context=0), 'min_context must be at least 1, got 0'),
    (dict(target_scale=0.2), r'target_scale must be a pair \(low, high\), got 0.2'),
    (dict(context_scale=(0.8, 0.9, 1.0)), r'context_scale .* got \(0.8, 0.9, 1.0\)'),
    (dict(target_aspect=(1, math.inf)), r'target_aspect must be .* got \(1, inf\)'),
    (dict(target_aspect=(math.nan, 1)), r'target_aspect must be .* got \(nan, 1\)'),
]


@pytest.mark.parametrize(('options', 'message'), BAD_OPTIONS)
def test_bad_options_are_told_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        check_multiblock((14, 14), **{**BLOCKS, **options})


@pytest.mark.parametrize('min_context', [20, 21, 22])
def test_settings_that_fail_now_and_then_are_told(min_context):
    """They find blocks for one image, but not for 128 at each step of a training."""
    options = {**BLOCKS, 'min_context': min_context}
    assert draw((6, 6), 0, 1, **options).context.shape[1] >= min_context
    message = (
        f'4 targets of 3x3 patches leave min_context={min_context} or more of a '
        'context of 6x6 in a grid of 6x6 in only .* '
        f'of {TRIAL_DRAWS} draws.*: lower min_context, num_targets or target_scale'
    )
    with pytest.raises(ValueError, match=message):
        check_multiblock((6, 6), **options)


def test_the_worst_aspect_lies_between_the_ends():
    """On 6x6, 7.2 patches are 2x3 or 3x2 at the ends, and 3x3 at aspect 1."""
    options = {**BLOCKS, 'min_context': 16}
    for aspect in BLOCKS['target_aspect']:
        check_multiblock((6, 6), **{**options, 'target_aspect': (aspect, aspect)})
    with pytest.raises(ValueError, match='4 targets of 3x3 patches'):
        check_multiblock((6, 6), **options)


@pytest.mark.parametrize('grid', [(6, 6), (14, 14), (8, 32)])
def test_what_the_check_accepts_trains(grid):
    """The largest context that it lets a training ask for; all batches find it."""
    accepted = [most for most in range(1, math.prod(grid)) if not refused(grid, most)]
    assert accepted == [*range(1, accepted[-1] + 1)]
    for seed in range(100):
        draw(grid, seed, 128, min_context=accepted[-1])


def refused(grid, min_context):
    try:
        check_multiblock(grid, **{**BLOCKS, 'min_context': min_context})
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(target_scale=(1.0, 1.0), target_aspect=(1, 1)), 'lower min_context, num'),
        (dict(min_context=197), 'fewer than min_context=197 of a context of'),
        *BAD_OPTIONS,
        (dict(target_scale=(0.2, 0.1)), r'target_scale must be .* got \(0.2, 0.1\)'),
        (dict(target_scale=(0.5, 1.5)), r'target_scale must be'),
        (dict(target_aspect=(0, 1)), r'target_aspect must be .* got \(0, 1\)'),
        (dict(context_scale=(0.9, 1.1)), r'context_scale must be .* above 0 up to 1'),
    ],
)
def test_impossible_settings(options, message):
    with pytest.raises(ValueError, match=message):
        draw((14, 14), 0, **options)


def test_tiny_grids():
    ids = draw((6, 6), 0, min_context=4)
    assert ids.context.shape[1] >= 4
    assert draw((1, 2), 0, 2, num_targets=1, min_context=1).target_size == (1, 1)
