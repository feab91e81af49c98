"""The field of positions: a float64 reference, properties, and where views go."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from mmpospretrain.models.positions import (
    PositionField,
    draw_scales,
    move_views,
    patch_centres,
)

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).double()
NOT_FLIPPED = torch.tensor([False])


def build(size: int = 7, mode: str = 'bicubic') -> PositionField:
    torch.manual_seed(0)
    return PositionField(5, size, mode, init_std=1.0).double()


def cubic(x: float) -> float:
    """Cubic convolution (Keys, 1981) with a = -.75."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def reference(samples: np.ndarray, x: float, y: float, mode: str) -> np.ndarray:
    """Sample by sample over all that could count."""
    size = len(samples)
    kernel = cubic if mode == 'bicubic' else lambda d: max(0.0, 1 - abs(d))
    u, v = x * size - 0.5, y * size - 0.5
    total = np.zeros(samples.shape[-1])
    for row in range(math.floor(v) - 2, math.floor(v) + 4):
        for col in range(math.floor(u) - 2, math.floor(u) + 4):
            inside = np.clip([row, col], 0, size - 1)
            total += kernel(v - row) * kernel(u - col) * samples[tuple(inside)]
    return total


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
def test_any_point(mode):
    field = build(mode=mode)
    points = torch.rand(40, 2).double()
    points[:4] = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    points[4] = torch.tensor([0.5 / 7, 6.5 / 7], dtype=torch.float64)  # a sample itself
    samples = field.samples.detach().numpy()
    expected = [reference(samples, x, y, mode) for x, y in points.tolist()]
    found = field.at(points).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found[4], samples[6, 0], atol=1e-12)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
def test_gradient_of_the_samples(mode):
    """Positions are linear in the samples: a step along any other field tells."""
    field = build(mode=mode)
    points = torch.rand(40, 2).double()
    weight = torch.randn(40, 5).double()
    (gradient,) = torch.autograd.grad((weight * field.at(points)).sum(), field.samples)
    step = np.random.default_rng(0).normal(size=(7, 7, 5))
    change = [reference(step, x, y, mode) for x, y in points.tolist()]
    expected = (weight.numpy() * change).sum()
    assert (gradient.numpy() * step).sum() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('size', [1, 3, 7])  # fewer samples than count, and more
@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('way', ['_sums', '_products'])  # of a CPU, and of a GPU
def test_on_a_grid_as_point_by_point(monkeypatch, way, mode, size):
    """Values and gradient, of views that reach the border and are mirrored."""
    field = build(size, mode)
    monkeypatch.setattr(field, '_sums', getattr(field, way))
    boxes = torch.rand(6, 2, 2).double().sort(dim=1).values.flatten(1)
    boxes[0] = WHOLE
    flipped = torch.tensor([False, True] * 3)
    centres = patch_centres(boxes, flipped, (4, 9))
    samples = field.samples.detach().numpy()
    expected = [reference(samples, x, y, mode) for x, y in centres.view(-1, 2).tolist()]
    found = field.on_grid(boxes, flipped, (4, 9))
    assert found.shape == (6, 36, 5)
    np.testing.assert_allclose(found.detach().view(-1, 5), expected, atol=1e-12)
    weight = torch.randn(6, 36, 5).double()
    gradients = [
        torch.autograd.grad((weight * values).sum(), field.samples)[0]
        for values in (found, field.at(centres))
    ]
    torch.testing.assert_close(*gradients)


def test_mixed_precision_leaves_positions_alone():
    field = build().float()
    with torch.autocast('cpu', torch.bfloat16):
        mixed = field.pos_embed((5, 3))
    assert torch.equal(mixed, field.pos_embed((5, 3)))


def test_whole_image_on_its_own_grid():
    field = build()
    found = field.on_grid(WHOLE, NOT_FLIPPED, (7, 7))
    torch.testing.assert_close(found[0].view(7, 7, 5), field.samples)
    torch.testing.assert_close(field.pos_embed((7, 7)), found)


def test_export_is_pytorch_s_resizing():
    """So that a `pos_embed` exported at one grid and resized looks as expected."""
    field = build()
    image = field.samples.permute(2, 0, 1)[None]
    larger = F.interpolate(image, (14, 21), mode='bicubic', align_corners=False)
    expected = larger.flatten(2).mT
    torch.testing.assert_close(field.pos_embed((14, 21)), expected)


def test_patches_of_views():
    """Row-major, rows ≠ columns, each at its own place."""
    box = torch.tensor([[0.2, 0.1, 0.6, 0.7]]).double()
    centres = patch_centres(box, NOT_FLIPPED, (3, 2))
    expected = [(x, y) for y in (0.2, 0.4, 0.6) for x in (0.3, 0.5)]
    np.testing.assert_allclose(centres[0], expected)
    mirrored = patch_centres(box, ~NOT_FLIPPED, (3, 2))
    expected = [(x, y) for y in (0.2, 0.4, 0.6) for x in (0.5, 0.3)]
    np.testing.assert_allclose(mirrored[0], expected)


def test_sampling_commutes_with_flipping():
    field = build()
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.0, 0.3, 0.7, 0.6]]).double()
    there = field.on_grid(boxes, torch.tensor([False, False]), (4, 6))
    mirrored = field.on_grid(boxes, torch.tensor([True, True]), (4, 6))
    flipped = there.unflatten(1, (4, 6)).flip(2).flatten(1, 2)
    torch.testing.assert_close(mirrored, flipped)


def test_every_view_has_its_own():
    """As if they came alone; global and local views may have one call each."""
    field = build()
    boxes = torch.rand(3, 4).double().sort(dim=1).values[:, [0, 1, 2, 3]]
    flipped = torch.tensor([True, False, True])
    together = field.on_grid(boxes, flipped, (2, 3))
    alone = [field.on_grid(boxes[[k]], flipped[[k]], (2, 3)) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def random_views(count: int) -> torch.Tensor:
    """(count, 3, 4) boxes within the unit square."""
    corners = torch.rand(count, 3, 2) * 0.7
    sizes = 0.05 + torch.rand(count, 3, 2) * 0.25
    return torch.cat((corners, corners + sizes), dim=-1)


def rectangle(boxes: torch.Tensor) -> torch.Tensor:
    """Smallest around the views of an image: (B, 4)."""
    return torch.cat((boxes[..., :2].amin(1), boxes[..., 2:].amax(1)), dim=-1)


def test_views_move_together():
    torch.manual_seed(0)
    boxes = random_views(500).double()
    scales = 0.2 + 0.8 * torch.rand(500).double()
    moved = move_views(boxes, scales)
    assert moved.min() >= 0
    assert moved.max() <= 1
    before, after = rectangle(boxes), rectangle(moved)
    size, new = before[:, 2:] - before[:, :2], after[:, 2:] - after[:, :2]
    # One factor for width and height, and for each view.
    factor = new[:, 0] / size[:, 0]
    torch.testing.assert_close(new[:, 1] / size[:, 1], factor)
    torch.testing.assert_close(
        (moved - after[:, None, [0, 1, 0, 1]]),
        (boxes - before[:, None, [0, 1, 0, 1]]) * factor[:, None, None],
    )
    area = new.prod(1)
    fits = (size * (scales / size.prod(1)).sqrt()[:, None]).amax(1) <= 1
    torch.testing.assert_close(area[fits], scales[fits])
    torch.testing.assert_close(new[~fits].amax(1), torch.ones(500).double()[~fits])
    assert (area[~fits] <= scales[~fits]).all()
    assert 10 < fits.sum() < 490


def test_places_are_uniform():
    torch.manual_seed(0)
    boxes = torch.tensor([[[0.1, 0.1, 0.3, 0.3]]]).expand(4000, -1, -1)
    moved = move_views(boxes, torch.full((4000,), 0.25))  # .5 wide, so .5 of room
    for places in moved[:, 0, :2].T:
        assert stats.kstest(places.numpy() / 0.5, 'uniform').pvalue > 1e-3


@pytest.mark.parametrize(
    ('name', 'law'), [('beta', stats.beta(2, 5)), ('uniform', stats.uniform())]
)
def test_scales(name, law):
    generator = torch.Generator().manual_seed(0)
    scales = draw_scales(5000, name, generator)
    assert scales.min() >= 0.2
    assert scales.max() <= 1
    share = (scales.numpy() - 0.2) / 0.8
    assert stats.kstest(share, law.cdf).pvalue > 1e-3
    again = draw_scales(5000, name, torch.Generator().manual_seed(0))
    assert torch.equal(scales, again)


def test_half_precision_keeps_its_places():
    """The field may be in half precision, places may not."""
    field = build()
    expected = field.pos_embed((14, 14))
    for dtype in (torch.bfloat16, torch.float16):
        found = field.to(dtype).pos_embed((14, 14))
        assert found.dtype == dtype
        error = (found - expected).abs().max()
        assert error < 4 * torch.finfo(dtype).eps * expected.abs().max()


def test_draws_are_where_the_boxes_are():
    boxes = random_views(4).to('meta')
    assert move_views(boxes, draw_scales(4, device='meta')).device.type == 'meta'


def test_constant_scale_moves_nothing():
    assert draw_scales(3, 'constant') is None


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: PositionField(4, size=0), 'size must be at least 1, got 0'),
        (lambda: PositionField(4, mode='nearest'), "got 'nearest'"),
        (lambda: draw_scales(3, 'normal'), "distribution must be one of .*'normal'"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
