"""DINOv2: a float64 reference, who sees and who learns what, masks, bad input."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from crops import (
    LEARNED,
    OBLONG,
    SQUARE,
    build,
    make_crops,
    move_on,
    reference,
    spied,
    sum_losses,
)
from scipy import stats
from torch.nn import functional as F

from mmpospretrain.models import DINOv2
from mmpospretrain.models.selfsup.dinov2 import feature_rank, target_statistics


def make(**kwargs) -> DINOv2:
    return build('DINOv2', **{'backbone': LEARNED, **kwargs})


@pytest.mark.parametrize('sizes', [SQUARE, OBLONG])
@pytest.mark.parametrize('method', ['sinkhorn', 'centering'])
def test_loss(monkeypatch, method, sizes):
    """All that it returns, for a student and a teacher that are not the same."""
    model = make(
        img_size=sizes[0],
        targets=dict(method=method, temperature=0.06),
        student_temperature=0.2,
        koleo_weight=0.7,
    ).double()
    move_on(model)
    inputs, samples = make_crops(sizes=sizes)
    inputs = [views.double() for views in inputs]
    with spied(monkeypatch, model) as (masks, _):
        losses = model(inputs, samples, mode='loss')

    def positions(backbone, size, view, image):
        grid_size = tuple(side // 16 for side in sizes[size])
        return backbone.patch_positions(grid_size)[0]

    expected = reference(model, inputs, 3, *masks, positions)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize('mask_ratio', [(0.1, 0.5), (0.0, 0.0)])
def test_gradient_reaches_the_student_but_never_the_teacher(mask_ratio):
    """Every part of it, with no patch masked too: nothing may be unused (DDP)."""
    model = make(mask_ratio=mask_ratio).train()
    of_masked = ('heads.content', 'mask_token')
    sum_losses(model(*make_crops(), mode='loss')).backward()
    for name, weight in model.named_parameters():
        trained = not name.startswith('target_')
        assert (weight.grad is not None) == trained == weight.requires_grad, name
        if trained and (mask_ratio[1] or not name.startswith(of_masked)):
            assert weight.grad.abs().sum() > 0, name


def test_the_log_has_no_gradient():
    losses = make()(*make_crops(), mode='loss')
    for name, value in losses.items():
        assert value.requires_grad == name.startswith('loss_'), name


def test_the_teacher_starts_as_the_student():
    model = make()
    for teacher, student in (
        (model.target_encoder, model.backbone),
        (model.target_heads, model.heads),
    ):
        weights = teacher.state_dict()
        for name, weight in student.state_dict().items():
            assert torch.equal(weights.pop(name), weight), name
        assert not weights


def test_init_weights():
    model = make()
    assert model.heads.keys() == model.targets.keys() == {'cls', 'content'}
    cls, content = model.heads.values()
    assert not torch.equal(cls.mlp[0].weight, content.mlp[0].weight)
    for head in (cls, content):
        assert not head.mlp[0].bias.any()
        assert head.prototypes.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert model.mask_token.std().item() == pytest.approx(0.02, rel=0.5)


def test_the_teacher_sees_everything_and_drops_nothing(monkeypatch):
    """What its heads are given is what it makes of whole views, alone in `eval`."""
    model = make(backbone=dict(LEARNED, drop_path_rate=0.9), content_share=1.0)
    move_on(model)
    model.train()
    assert model.backbone.training
    for part in (model.target_encoder, model.target_heads):
        assert not any(module.training for module in part.modules())
    inputs, samples = make_crops()
    heard = {}
    for name, head in model.target_heads.items():
        head.mlp.register_forward_pre_hook(
            lambda _, args, name=name: heard.update({name: args[0]})
        )
    with spied(monkeypatch, model) as (masks, _):
        model(inputs, samples, mode='loss')
    (expected,) = model.target_encoder(inputs[0])  # (V·B, 1 + N, D)
    mask = masks[0]['content']
    assert mask.any(1).all()
    torch.testing.assert_close(heard['cls'], expected[:, 0])
    torch.testing.assert_close(heard['content'], expected[:, 1:][mask])


def test_stochastic_depth():
    """Of the student alone, and in training alone."""
    model = make(backbone=dict(LEARNED, drop_path_rate=0.5))
    move_on(model)
    images = torch.randn(16, 3, 96, 64)  # each with its own lot
    student, teacher = model.backbone, model.target_encoder
    for training, backbone in product((True, False), (student, teacher)):
        model.train(training)
        first, second = (model.encode(backbone, images, None) for _ in range(2))
        random = training and backbone is student
        assert torch.equal(first, second) != random


def test_few_passes(monkeypatch):
    """One of each size for the student, one for the teacher; heads see masked alone."""
    model = make()
    rows = {}
    for kind in ('heads', 'target_heads'):
        for name, head in getattr(model, kind).items():
            head.mlp.register_forward_pre_hook(
                lambda _, args, key=(kind, name): rows.setdefault(key, []).append(
                    args[0].shape
                )
            )
    with spied(monkeypatch, model) as (masks, tokens):
        model(*make_crops(), mode='loss')
    shapes = sorted((teacher, tuple(x.shape)) for teacher, x in tokens)
    assert shapes == [(False, (6, 24, 32)), (False, (9, 6, 32)), (True, (6, 24, 32))]
    masked = masks[0]['content'].sum().item()
    assert rows == {
        ('target_heads', 'cls'): [(6, 32)],
        ('target_heads', 'content'): [(masked, 32)],
        ('heads', 'cls'): [(15, 32)],
        ('heads', 'content'): [(masked, 32)],
    }


def test_masked_patches_keep_their_positions(monkeypatch):
    model = make()
    move_on(model)
    inputs, samples = make_crops()
    with spied(monkeypatch, model) as (masks, tokens):
        model(inputs, samples, mode='loss')
    given = next(x for teacher, x in tokens if not teacher)
    patches, positions = model.backbone.patchify(inputs[0])[0], model.backbone.pos_embed
    for view, patch in np.ndindex(6, 24):
        content = patches[view, patch]
        if masks[0]['content'][view, patch]:
            content = model.mask_token[0, 0]
        expected = content + positions[0, 1 + patch]
        torch.testing.assert_close(given[view, patch], expected)


@pytest.mark.parametrize('grid_size', [(6, 6), (6, 4), (14, 14)])
@pytest.mark.parametrize('ratio', [0.0, 0.1, 0.3, 0.37, 1.0])
def test_exactly_as_many_patches(ratio, grid_size):
    model = make(mask_ratio=(ratio, ratio))
    mask = model.draw_masks(10, grid_size)['content']
    count = round(ratio * math.prod(grid_size))
    assert mask.shape == (10, math.prod(grid_size))
    assert mask.dtype == torch.bool
    assert mask.sum(1).sort().values.tolist() == [0] * 5 + [count] * 5


@pytest.mark.parametrize('num_views', [3, 4])
def test_ratios_are_uniform(num_views):
    """Of every view, over many draws, whichever views are masked."""
    model = make(content_share=0.5)
    generator = torch.Generator().manual_seed(0)
    draws = [
        model.draw_masks(num_views, (14, 14), generator)['content'] for _ in range(1000)
    ]
    for counts in torch.stack(draws).sum(2).T.numpy():  # (1000,)
        ratios = counts[counts > 0] / 196
        uniform = stats.kstest(ratios, stats.uniform(0.1, 0.4).cdf)
        # Rounding moves them by half a patch at most.
        assert uniform.statistic < 0.5 / (0.4 * 196) + 1.63 / math.sqrt(len(ratios))


@pytest.mark.parametrize('num_views', [8, 128])
def test_every_draw_has_small_and_large_ratios(num_views):
    """Half of the views are masked, each as much as its part of the range says."""
    model, gap = make(), 0.4 / (num_views / 2)
    seen = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        mask = model.draw_masks(num_views, (14, 14), generator)['content']
        counts = mask.sum(1)[mask.any(1)].double()
        place = (counts.sort().values - 0.1 * 196) / (gap * 196)
        middles = torch.arange(num_views // 2) + 0.5
        rounded = 0.5 / (gap * 196) + 1e-9
        assert (place - middles).abs().max() <= 0.5 + rounded
        seen.add(tuple(counts.tolist()))
    assert len(seen) == 20  # and not always the same views


@pytest.mark.parametrize('share', [0.0, 0.25, 0.5, 1.0])
def test_a_share_of_the_views(share):
    """Exactly, and each view as often as any other."""
    model = make(content_share=share)
    generator = torch.Generator().manual_seed(0)
    draws = [model.draw_masks(8, (3, 3), generator)['content'] for _ in range(200)]
    masked = torch.stack(draws).any(2)  # (200, 8)
    assert masked.sum(1).eq(8 * share).all()
    error = 4 * math.sqrt(share * (1 - share) / 200)
    assert (masked.double().mean(0) - share).abs().max() <= error


@pytest.mark.parametrize('num_views', [2, 5])
def test_a_share_that_views_do_not_divide_by(num_views):
    """Right over many draws, and by less than a view off in each."""
    model = make(content_share=0.3)
    generator = torch.Generator().manual_seed(0)
    draws = [model.draw_masks(num_views, (3, 3), generator) for _ in range(200)]
    masked = torch.stack([draw['content'].any(1) for draw in draws]).sum(1).double()
    assert (masked - 0.3 * num_views).abs().max() < 1
    error = 4 * 0.5 / math.sqrt(200)
    assert masked.mean().item() == pytest.approx(0.3 * num_views, abs=error)


def test_masks_are_drawn_anew_and_again():
    model = make()
    one, other, again = (
        model.draw_masks(6, (6, 6), torch.Generator().manual_seed(seed))['content']
        for seed in (0, 1, 0)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_target_statistics():
    """Row by row in float64; a prototype that nobody wants is no NaN."""
    targets = torch.randn(5, 7).mul(3).softmax(-1)
    targets[:, 2] = 0
    targets /= targets.sum(1, keepdim=True)
    rows = targets.double().numpy()
    mean = rows.mean(0)
    entropy, kl = 0.0, 0.0
    for row in rows:
        for share, common in zip(row, mean, strict=True):
            if share > 0:
                entropy -= share * math.log(share) / 5 / math.log(7)
                kl += share * math.log(share / common) / 5 / math.log(7)
    found = target_statistics(targets)
    np.testing.assert_allclose(found, (entropy, kl), rtol=1e-5)


@pytest.mark.parametrize(
    ('targets', 'expected'),
    [
        (torch.eye(8)[[3] * 6], (0, 0)),  # all say the same prototype
        (torch.full((6, 8), 1 / 8), (1, 0)),  # or nothing at all
        (torch.eye(8), (0, 1)),  # each its own
        (torch.eye(8)[:4].repeat(2, 1), (0, math.log(4) / math.log(8))),
    ],
)
def test_targets_that_say_nothing(targets, expected):
    np.testing.assert_allclose(target_statistics(targets), expected, atol=1e-6)


@pytest.mark.parametrize('rank', [1, 2, 5])
def test_feature_rank_of_equal_directions(rank):
    """As many as there are, wherever they point and wherever the middle is."""
    directions = torch.linalg.qr(torch.randn(32, 32)).Q[:rank]
    features = 3 * torch.cat((directions, -directions)) + torch.randn(32)
    assert feature_rank(features).item() == pytest.approx(rank, rel=1e-4)


def test_feature_rank():
    """From the eigenvalues in float64; more tokens than width, and the other way."""
    for shape in ((40, 6), (6, 40)):
        features = torch.randn(shape) * torch.arange(1, shape[1] + 1)
        values = np.linalg.eigvalsh(np.cov(features.double().numpy().T))
        expected = values.sum() ** 2 / (values**2).sum()
        assert feature_rank(features).item() == pytest.approx(expected, rel=1e-4)
    assert feature_rank(torch.ones(6, 4) * torch.randn(4)) < 1e-3


def test_no_koleo():
    """One image has no neighbour to be driven away from, and needs none."""
    model = make(koleo_weight=0.0)
    losses = model(*make_crops(num_images=1), mode='loss')
    assert losses['loss_koleo'] == 0
    assert torch.isfinite(sum_losses(losses))


def test_feature_rank_in_half_precision():
    features = F.layer_norm(torch.randn(128, 768), (768,))
    with torch.autocast('cpu', torch.float16):
        mixed = feature_rank(features)
    assert torch.equal(mixed, feature_rank(features))


def test_mixed_precision():
    model = make()
    results = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            results.append(model(*make_crops(), mode='loss'))
    full, mixed = results
    for name, value in full.items():
        torch.testing.assert_close(mixed[name].float(), value, rtol=0.05, atol=0.05)
    sum_losses(mixed).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ('views', 'message'),
    [
        (dict(num_views=(3, 2)), r'num_global_views is 2, .* has \[3.0, 2.0\] views'),
        # Local views of the same size come as one batch with the global ones.
        (dict(sizes=OBLONG[:1], num_views=(5,)), r'has \[5.0\] views: .*another size'),
    ],
)
def test_other_views_than_expected(views, message):
    with pytest.raises(ValueError, match=message):
        make()(*make_crops(**views), mode='loss')


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (
            dict(backbone=dict(LEARNED, with_cls_token=False)),
            'DINOv2 needs a backbone with with_cls_token=True',
        ),
        (dict(num_global_views=0), 'num_global_views must be at least 1, got 0'),
        (dict(content_share=1.1), r'content_share must lie in \[0, 1\], got 1.1'),
        (dict(mask_ratio=(0.1, 1.5)), r'mask_ratio must lie in \[0, 1\], got 1.5'),
        (dict(mask_ratio=(0.5, 0.1)), r'from least to most, got \(0.5, 0.1\)'),
        (dict(masking_unit='crop'), "masking_unit must be one of .*, got 'crop'"),
        (dict(koleo_weight=-1), 'koleo_weight must be at least 0, got -1'),
        (
            dict(student_temperature=0),
            'student_temperature must be at least .* got 0',
        ),
        (dict(targets=dict(method='mean')), "method must be one of .*, got 'mean'"),
    ],
)
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)
