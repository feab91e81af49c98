"""StoP: golden values, the statistics of its noise, its variants."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.models.necks import MAEPretrainDecoder
from mmpretrain.registry import MODELS
from torch.nn import functional as F

from mmpospretrain.models import IJEPA, StochasticMAEDecoder, StoP
from mmpospretrain.models.positions import correlated_noise

BACKBONE = dict(
    type='mmpospretrain.PositionViT',
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    img_size=(96, 128),
    with_cls_token=False,
)
NECK = dict(
    type='mmpospretrain.StochasticPredictor', embed_dims=24, depth=2, num_heads=3
)


def build(neck=None, **kwargs) -> StoP:
    torch.manual_seed(0)
    cfg = dict(type='mmpospretrain.StoP', backbone=BACKBONE, min_context=4, **kwargs)
    model = MODELS.build({**cfg, 'neck': {**NECK, **(neck or {})}})
    model.init_weights()
    return model.train()


@pytest.fixture
def images():
    return torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def ids():
    return build().draw_masks(3, torch.Generator().manual_seed(0))


def test_predictor_input(ids):
    """c = A·s + b + ψ and m = A·n + ψ + m̃, entry by entry."""
    predictor = build(dict(sigma=0.25)).neck
    torch.nn.init.normal_(predictor.embed.bias)
    features = torch.randn(3, ids.context.shape[1], 32)
    torch.manual_seed(3)
    masked = predictor.masked_tokens(ids.targets).detach().numpy()
    context = predictor.context_tokens(features, ids.context).detach().numpy()

    torch.manual_seed(3)
    noise = torch.randn(*ids.targets.shape, 32).numpy() * 0.5  # variance .25
    a, b, psi, m = (
        x.detach().numpy()
        for x in (
            predictor.embed.weight,
            predictor.embed.bias,
            predictor.pos_embed[0],
            predictor.mask_token[0, 0],
        )
    )
    for image, block, patch in np.ndindex(*ids.targets.shape):
        place = ids.targets[image, block, patch]
        expected = [
            sum(a[p, d] * noise[image, block, patch, d] for d in range(32))
            + psi[place, p]
            + m[p]
            for p in range(24)
        ]
        np.testing.assert_allclose(masked[image, block, patch], expected, atol=1e-6)
    for image, patch in np.ndindex(*ids.context.shape):
        expected = (
            a @ features[image, patch].numpy() + b + psi[ids.context[image, patch]]
        )
        np.testing.assert_allclose(context[image, patch], expected, atol=1e-5)


def test_covariance_is_sigma_a_at():
    a = torch.tensor([[1.0, 2, 0], [0, -1, 1]])
    samples = correlated_noise(a, (200_000,), 0.25, torch.Generator().manual_seed(0))
    assert samples.shape == (200_000, 2)
    expected = np.array([[5, -2], [-2, 2]]) / 4
    # The standard error of a covariance of n samples is below 2·σᵢσⱼ/√n.
    error = 4 * 2 * 1.25 / math.sqrt(200_000)
    np.testing.assert_allclose(np.cov(samples.T.numpy()), expected, atol=error)
    np.testing.assert_allclose(samples.mean(0), 0, atol=error)


def test_noise_has_any_shape_and_its_own_generator():
    a = torch.eye(4)
    seed = torch.Generator().manual_seed
    first = correlated_noise(a, (2, 3, 5), 1.0, seed(0))
    assert first.shape == (2, 3, 5, 4)
    assert torch.equal(first, correlated_noise(a, (2, 3, 5), 1.0, seed(0)))
    assert len(first.flatten().unique()) == first.numel()  # drawn for every token
    with pytest.raises(ValueError, match='the variance must be at least 0, got -1'):
        correlated_noise(a, (1,), -1)


def trained(model, images, steps=3):
    """Losses and gradients of some optimizer steps."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        loss = model(images, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize('neck', [dict(sigma=0.0), dict(noise_on='none')])
def test_without_noise_it_is_ijepa_bit_for_bit(images, neck):
    stop = build(neck)
    torch.manual_seed(0)
    cfg = dict(type='mmpospretrain.IJEPA', backbone=BACKBONE, min_context=4)
    ijepa = MODELS.build(
        {**cfg, 'neck': dict(NECK, type='mmpospretrain.LatentPredictor')}
    )
    ijepa.init_weights()
    ijepa.train()
    assert type(ijepa) is IJEPA
    assert trained(stop, images) == trained(ijepa, images)
    ours, theirs = stop.state_dict(), ijepa.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight), name
    assert trained(build(), images) != trained(ijepa, images)


def test_a_is_one_parameter_with_two_roles(images, ids):
    """Its gradient is the sum of that as a projection and that of the noise."""
    model = build().double()
    neck, images = model.neck, images.double()
    assert [name for name, p in neck.named_parameters() if p.shape == (24, 32)] == [
        'embed.weight'
    ]

    def gradients(separate):
        noise_matrix = neck.embed.weight
        if separate:
            noise_matrix = neck.embed.weight.detach().clone().requires_grad_()
            neck.shifts = lambda kind, ids: (
                correlated_noise(noise_matrix, ids.shape, 0.25) if kind == 'm' else 0.0
            )
        torch.manual_seed(0)
        features = model.encode_context(images, ids.context)
        neck(features, ids).square().sum().backward()
        result = neck.embed.weight.grad.clone(), noise_matrix.grad.clone()
        neck.embed.weight.grad = None
        return result

    (whole, _), (projection, noise) = gradients(False), gradients(True)
    assert projection.norm() > 0
    assert noise.norm() > 0
    torch.testing.assert_close(whole, projection + noise)


@pytest.mark.parametrize('noise_on', ['none', 'masked', 'context', 'both'])
def test_where_the_noise_is(ids, noise_on):
    predictor = build(dict(noise_on=noise_on)).neck
    features = torch.randn(3, ids.context.shape[1], 32)

    def differ():
        a, b = (predictor.masked_tokens(ids.targets) for _ in range(2))
        c, d = (predictor.context_tokens(features, ids.context) for _ in range(2))
        return (not torch.equal(a, b), not torch.equal(c, d))

    assert differ() == (noise_on in ('masked', 'both'), noise_on in ('context', 'both'))
    predictor.eval()
    assert differ() == (False, False)


def test_fixed_covariance(ids):
    """σ·I, whatever A is."""
    predictor = build(dict(covariance='fixed', sigma=4.0)).neck
    samples = predictor.shifts('m', torch.zeros(20_000)).detach()
    covariance = np.cov(samples.T.numpy())
    np.testing.assert_allclose(covariance, 4 * np.eye(24), atol=0.25)
    torch.manual_seed(0)
    before = predictor.masked_tokens(ids.targets)
    torch.nn.init.zeros_(predictor.embed.weight)
    torch.manual_seed(0)
    assert torch.equal(predictor.masked_tokens(ids.targets), before)


def test_terms_of_the_ablations(images):
    model = build(l1_weight=0.3, low_resolution='bilinear')
    torch.manual_seed(2)
    losses = model(images, mode='loss')
    a = model.neck.embed.weight.detach()
    expected = 0.3 * np.mean([abs(x) for row in a.tolist() for x in row])
    assert losses['loss_l1'].item() == pytest.approx(expected, rel=1e-5)
    assert losses['norm_A'].item() == pytest.approx(a.norm().item())
    assert losses['norm_mask_token'].item() == pytest.approx(
        model.neck.mask_token.norm().item()
    )
    total, log = model.parse_losses(losses)
    expected = sum(losses[name] for name in ('loss_features', 'loss_l1', 'loss_low'))
    assert total.item() == log['loss'].item() == pytest.approx(expected.item())


@pytest.mark.parametrize('mode', ['bilinear', 'max'])
@pytest.mark.parametrize('size', [(4, 2), (3, 4), (1, 4), (5, 1)])
def test_low_resolution(mode, size):
    """Predictions and targets, 2 x 2 patches at a time; odd sides use some twice."""
    model = build(low_resolution=mode)
    rows, cols = size
    ids = model.draw_masks(2)._replace(target_size=size)
    predictions, targets = torch.randn(2, 2, 2, rows * cols, 32, dtype=torch.double)
    loss = model.compare(predictions, targets, ids)['loss_low']
    reduce = np.mean if mode == 'bilinear' else np.max

    def window(index: int, side: int) -> slice:
        half = max(side // 2, 1)
        return slice(index * side // half, math.ceil((index + 1) * side / half))

    errors = []
    low_size = max(rows // 2, 1), max(cols // 2, 1)
    for image, block, row, col, channel in np.ndindex(2, 2, *low_size, 32):
        low = [
            reduce(
                x[image, block, :, channel]
                .view(rows, cols)[window(row, rows), window(col, cols)]
                .numpy()
            )
            for x in (predictions, targets)
        ]
        d = abs(low[0] - low[1])
        errors.append(0.5 * d * d if d < 1 else d - 0.5)
    assert loss.item() == pytest.approx(np.mean(errors))
    if mode == 'bilinear':
        x = torch.randn(2, 3, 4, 6)
        resized = F.interpolate(x, scale_factor=0.5, mode='bilinear')
        torch.testing.assert_close(model.downscale(x, (2, 3)), resized)


def test_small_targets_are_fine_at_full_resolution(images):
    model = build(target_scale=(0.02, 0.02))
    assert model(images, mode='loss')['loss'].isfinite()


@pytest.mark.parametrize(
    ('neck', 'kwargs', 'message'),
    [
        (dict(sigma=-0.1), {}, 'sigma must be at least 0, got -0.1'),
        (dict(sigma=math.nan), {}, 'sigma must be at least 0, got nan'),
        (dict(noise_on='all'), {}, "noise_on must be one of .*'both'.*, got 'all'"),
        (dict(covariance='diagonal'), {}, "covariance must be one of .* 'diagonal'"),
        ({}, dict(low_resolution='mean'), "low_resolution must be .* got 'mean'"),
        ({}, dict(l1_weight=-1), 'l1_weight must be at least 0, got -1'),
        ({}, dict(l1_weight=math.nan), 'l1_weight must be at least 0, got nan'),
        ({}, dict(num_targets=-1), 'num_targets must be at least 1, got -1'),
    ],
)
def test_bad_options(neck, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(neck, **kwargs)


class TestMAEDecoder:
    """Against MMPretrain's decoder."""

    @pytest.fixture
    def decoders(self):
        shape = dict(
            num_patches=16,
            patch_size=4,
            embed_dim=32,
            decoder_embed_dim=24,
            decoder_depth=1,
            decoder_num_heads=3,
        )
        ours = StochasticMAEDecoder(sigma=0.25, **shape)
        theirs = MAEPretrainDecoder(**shape)
        theirs.init_weights()
        ours.load_state_dict(theirs.state_dict())
        return ours, theirs

    @pytest.fixture
    def inputs(self):
        torch.manual_seed(0)
        return torch.randn(2, 1 + 5, 32), torch.rand(2, 16).argsort(1)

    def test_without_noise_it_is_upstream(self, decoders, inputs):
        ours, theirs = decoders
        ours.eval()
        assert torch.equal(ours(*inputs), theirs(*inputs))
        ours.train()
        ours.sigma = 0.0
        assert torch.equal(ours(*inputs), theirs(*inputs))

    def test_noise_is_on_masked_patches(self, decoders, inputs):
        ours, _ = decoders
        entering = []
        ours.decoder_blocks[0].register_forward_pre_hook(
            lambda module, args: entering.append(args[0])
        )
        ours.train()
        ours(*inputs)
        ours.eval()
        ours(*inputs)
        noisy, plain = entering
        masked = F.pad(inputs[1] >= 5, (1, 0))  # [CLS] is none
        differs = (noisy != plain).any(-1)
        assert torch.equal(differs, masked)
        shift = (noisy - plain)[masked]
        assert 0 < shift.square().mean() < 1
