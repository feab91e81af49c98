"""DropPos: golden values, properties, bad input."""

import copy

import numpy as np
import pytest
import torch
from mmpretrain.models.heads import MAEPretrainHead
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmpospretrain.models.selfsup.droppos import Masks, cls_affinity
from mmpospretrain.models.selfsup.position_predictor import evaluating

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
WIDE = dict(embed_dims=512, num_layers=1, num_heads=4, feedforward_channels=64)
GRID = ROWS, COLS = 3, 5
NUM = ROWS * COLS


def config(**kwargs) -> dict:
    backbone = {
        'type': 'mmpospretrain.PositionViT',
        'arch': ARCH,
        'img_size': (48, 80),
        **kwargs.pop('backbone', {}),
    }
    head = dict(
        type='mmpospretrain.PositionHead',
        decoder_dims=16,
        depth=1,
        num_heads=2,
        loss=dict(sigma=1.0),
        **kwargs.pop('head', {}),
    )
    return dict(type='mmpospretrain.DropPos', backbone=backbone, head=head, **kwargs)


def build(**kwargs):
    torch.manual_seed(0)
    model = MODELS.build(config(**kwargs))
    model.init_weights()
    return model


@pytest.fixture
def images():
    return torch.randn(4, 3, 48, 80, generator=torch.Generator().manual_seed(1))


def numpy_loss(logits, ids, weight, sigma):
    """Eq. 8 in float64, patch by patch."""
    total = loss = 0.0
    for b, v in np.ndindex(*ids.shape):
        place = ids[b, v]
        target = np.zeros(NUM)
        for j in range(NUM):
            distance = np.hypot(place // COLS - j // COLS, place % COLS - j % COLS)
            target[j] = np.exp(-distance / sigma**2) if sigma else float(j == place)
        target /= target.sum()
        log_prob = logits[b, v] - np.log(np.exp(logits[b, v]).sum())
        loss += weight[b, v] * -(target * log_prob).sum()
        total += weight[b, v]
    return loss / total


def numpy_affinity(features, temperature):
    """Eq. 9 in float64, image by image."""
    rows = []
    for cls, *patches in features:
        cosine = [(cls @ p) / np.linalg.norm(cls) / np.linalg.norm(p) for p in patches]
        weight = np.exp(np.array(cosine) / temperature)
        rows.append(weight / weight.sum())
    return np.stack(rows)


@pytest.mark.parametrize('sigma', [0.0, 1.0])
@pytest.mark.parametrize(
    ('temperature', 'source'), [(None, 'image'), (0.1, 'image'), (0.5, 'visible')]
)
def test_loss(images, temperature, source, sigma):
    model = build(temperature=temperature, affinity_source=source, mask_ratio=0.5)
    model.head.loss_module.sigma.fill_(sigma)
    torch.manual_seed(7)
    losses = model.loss(images)

    torch.manual_seed(7)  # the same masks, and the steps one by one
    masks = model.draw_masks(4)
    with torch.no_grad():
        features = model.encode_visible(model.backbone.patchify(images)[0], masks)
        logits = model.head(features).double().numpy()
        whole = model.backbone(images)[0].double().numpy()
    ids, dropped = masks.visible.numpy(), masks.dropped.numpy()
    if temperature is None:
        weight = np.ones(ids.shape)
    elif source == 'visible':
        weight = numpy_affinity(features.double().numpy(), temperature)
    else:
        weight = numpy_affinity(whole, temperature)
        weight = np.take_along_axis(weight, ids, 1)
    expected = numpy_loss(logits, ids, weight * dropped, sigma)
    assert losses['loss'].item() == pytest.approx(expected, rel=1e-5)
    correct = (logits.argmax(-1) == ids)[dropped].mean()
    assert losses['position_acc'].item() == pytest.approx(100 * correct)
    assert losses['sigma'].item() == sigma


def test_masks():
    model = build(mask_ratio=0.4, pos_mask_ratio=0.75)
    masks = model.draw_masks(64, generator=torch.Generator().manual_seed(0))
    assert masks.visible.shape == masks.dropped.shape == (64, 9)  # int(15 · .6)
    assert (masks.dropped.sum(1) == 9 - 2).all()  # int(9 · .25) anchors
    assert all(len(set(ids)) == 9 for ids in masks.visible.tolist())
    # The two draws are independent: where a patch lies says nothing of its fate.
    rows = masks.visible[masks.dropped] // COLS
    assert len(rows.unique()) == ROWS


def test_anchors_and_cls_keep_their_positions(images):
    model = build(backbone=dict(positions='learned'))
    backbone = model.backbone
    seen = []
    backbone.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    patches, _ = backbone.patchify(images)
    masks = model.draw_masks(4, mask_ratio=0.2, pos_mask_ratio=0.5)
    model.encode_visible(patches, masks)
    (tokens,) = seen  # (B, 1 + V, D)
    cls = backbone.cls_token[0, 0] + backbone.pos_embed[0, 0]
    for b in range(4):
        torch.testing.assert_close(tokens[b, 0], cls)
        for v, (place, dropped) in enumerate(
            zip(masks.visible[b], masks.dropped[b], strict=True)
        ):
            position = (
                model.pos_mask_token[0, 0]
                if dropped
                else backbone.pos_embed[0, 1 + place]
            )
            torch.testing.assert_close(tokens[b, 1 + v], patches[b, place] + position)


def test_permuting_visible_patches_permutes_logits(images):
    model = build(mask_ratio=0.25).eval()
    patches, _ = model.backbone.patchify(images)
    masks = model.draw_masks(4)
    num_visible = masks.dropped.shape[1]
    permutation = torch.randperm(num_visible)
    order = masks.order.clone()
    order[:, :num_visible] = masks.visible[:, permutation]
    shuffled = Masks(order, masks.dropped[:, permutation])
    with torch.no_grad():
        logits = model.head(model.encode_visible(patches, masks))
        permuted = model.head(model.encode_visible(patches, shuffled))
    torch.testing.assert_close(permuted, logits[:, permutation], rtol=1e-4, atol=1e-5)


def test_positions_of_dropped_patches_do_not_leak(images):
    """With every position dropped, the grid of positions makes no difference."""
    model = build(pos_mask_ratio=1.0).eval()
    masks = model.draw_masks(4)
    patches, _ = model.backbone.patchify(images)
    with torch.no_grad():
        before = model.head(model.encode_visible(patches, masks))
        model.backbone.pos_embed[:, 1:] += torch.randn(1, NUM, 32)
        after = model.head(model.encode_visible(patches, masks))
    assert torch.equal(before, after)


def test_affinity_golden():
    features = np.random.default_rng(0).normal(size=(3, 8, 16))
    actual = cls_affinity(torch.tensor(features), 0.1)
    np.testing.assert_allclose(actual, numpy_affinity(features, 0.1), rtol=1e-4)


def test_affinity_pass_leaves_no_trace(images):
    model = build(backbone=dict(drop_path_rate=0.5, drop_rate=0.5)).train()
    model.backbone.layers[0].attn.eval()  # a part that somebody has frozen
    modes = {name: m.training for name, m in model.named_modules()}
    patches, _ = model.backbone.patchify(images)
    masks = model.draw_masks(4)
    state = torch.get_rng_state()
    weight = model.affinity(patches, masks, features=None)
    assert torch.equal(state, torch.get_rng_state())
    assert modes == {name: m.training for name, m in model.named_modules()}
    assert not weight.requires_grad
    # No dropout in it: the same again, and the same as in evaluation.
    assert torch.equal(weight, model.affinity(patches, masks, features=None))
    assert torch.equal(weight, model.eval().affinity(patches, masks, features=None))


def test_affinity_takes_no_gradient(images):
    model = build(affinity_source='visible')
    weights = []
    forward = model.head.loss_module.forward

    def spy(logits, ids, weight):
        weights.append(weight)
        return forward(logits, ids, weight)

    model.head.loss_module.forward = spy
    model.loss(images)
    assert not weights[0].requires_grad


def test_modes_are_restored_after_an_error():
    model = build().train()
    with pytest.raises(ZeroDivisionError), evaluating(model.backbone):
        1 / int(model.backbone.training)
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize('mask_ratio', [0, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize('pos_mask_ratio', [0.25, 0.5, 0.75, 1])
def test_ratios_of_the_paper(images, mask_ratio, pos_mask_ratio):
    model = build(mask_ratio=mask_ratio, pos_mask_ratio=pos_mask_ratio)
    losses = model.loss(images)
    losses['loss'].backward()
    assert torch.isfinite(losses['loss'])
    assert model.pos_mask_token.grad.abs().sum() > 0
    if mask_ratio == 0:
        visible = model.draw_masks(2).visible
        assert torch.equal(visible.sort(1).values, torch.arange(NUM).expand(2, NUM))


def test_every_trained_parameter_gets_a_gradient(images):
    model = build()
    model.loss(images)['loss'].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_bfloat16_agrees(images):
    model = build(temperature=0.1)
    torch.manual_seed(3)
    full = model.loss(images)['loss']
    torch.manual_seed(3)
    with torch.autocast('cpu', torch.bfloat16):
        half = model.loss(images)['loss']
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.02)


def test_learns_a_batch(images):
    """Overfits one batch whose patches tell their place: the parts fit together."""
    model = build(mask_ratio=0.25, pos_mask_ratio=0.5, temperature=None)
    model.head.loss_module.sigma.fill_(0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(150):
        torch.manual_seed(step)
        losses = model.loss(images)
        optimizer.zero_grad()
        losses['loss'].backward()
        optimizer.step()
    assert losses['position_acc'] > 90  # chance is 7


def test_predict_is_deterministic_and_silent(images):
    model = build().eval()
    state = torch.get_rng_state()
    first = model(images, mode='predict')
    assert torch.equal(state, torch.get_rng_state())
    second = model(images, mode='predict')
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.position_ids, b.position_ids)
        assert torch.equal(a.position_predicted, b.position_predicted)
    assert first[0].position_dropped.dtype == torch.bool


def test_every_batch_of_a_validation_has_masks_of_its_own(images):
    model = build().eval()
    drawn = [
        model(images, [DataSample(sample_idx=start + n) for n in range(4)], 'predict')
        for start in (0, 4, 0)
    ]
    first, other, again = (torch.stack([s.position_ids for s in d]) for d in drawn)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_tensor_mode(images):
    assert build().eval()(images)[0].shape == (4, 1 + NUM, 32)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mask_ratio=1.0), r'mask_ratio must lie in \[0, 1\), got 1.0'),
        (dict(mask_ratio=-0.1), r'mask_ratio must lie in \[0, 1\), got -0.1'),
        (dict(pos_mask_ratio=0), r'pos_mask_ratio must lie in \(0, 1\], got 0'),
        (dict(pos_mask_ratio=1.5), r'pos_mask_ratio must lie in \(0, 1\], got 1.5'),
        (dict(temperature=0), r'temperature .* must be at least 0\.01, got 0'),
        (dict(temperature=1e-3), r'temperature .* must be at least 0\.01, got 0\.001'),
        (dict(mask_ratio='0.75'), r"mask_ratio must lie in \[0, 1\), got '0\.75'"),
        (dict(affinity_source='all'), r"\('image', 'visible'\), got 'all'"),
        (dict(backbone=dict(with_cls_token=False)), 'with_cls_token=True'),
        (dict(backbone=dict(in_channels=1), data_preprocessor=dict(mean=[1, 2, 3],
         std=[1, 1, 1])), 'normalises 3 channels, the backbone takes 1'),
        (dict(head=dict(num_heads=5)), 'num_heads 5 does not divide decoder_dims 16'),
        (dict(head=dict(depth=-1)), 'depth must be at least 0, got -1'),
        (dict(head=dict(num_heads=0)), 'num_heads must be at least 1, got 0'),
        (dict(head=dict(decoder_dims=0)), 'decoder_dims must be at least 1, got 0'),
        (dict(head=dict(mlp_ratio=0)), r'mlp_ratio must be at least 0\.0625, got 0'),
    ],
)  # fmt: skip
def test_bad_options(options, message):
    cfg = config()
    for part in ('backbone', 'head'):
        cfg[part].update(options.pop(part, {}))
    with pytest.raises(ValueError, match=message):
        MODELS.build({**cfg, **options})


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='VisionTransformer', arch='deit-tiny', img_size=64),
        dict(type='ResNet', depth=18),
        dict(type='mmpospretrain.ViTDet', arch='small'),
    ],
)
def test_other_backbones(backbone):
    cfg = {**config(), 'backbone': backbone}
    message = f'needs an mmpospretrain.PositionViT .* {backbone["type"].split(".")[-1]}'
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)


def test_initialisation(tmp_path):
    """The mask token is random, unless it comes from a checkpoint."""
    token = build(backbone=dict(arch=WIDE)).pos_mask_token
    assert token.std().item() == pytest.approx(0.02, rel=0.2)
    trained = build()
    torch.nn.init.constant_(trained.pos_mask_token, 7)
    torch.save(trained.state_dict(), tmp_path / 'trained.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'trained.pth'))
    loaded = build(init_cfg=init_cfg).state_dict()
    for name, value in trained.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_images_of_another_grid():
    with pytest.raises(ValueError, match=r'tells \(3, 5\) places apart.*\(5, 3\)'):
        build().loss(torch.zeros(1, 3, 80, 48))


def multi_task(**kwargs):
    cfg = config(**kwargs)
    cfg.update(
        type='mmpospretrain.DropPosMAE',
        pixel_decoder=dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2),
        pixel_head=dict(
            norm_pix=True, loss=dict(type='PixelReconstructionLoss', criterion='L2')
        ),
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def test_multi_task(images):
    model = multi_task()
    torch.manual_seed(5)
    losses = model.loss(images)
    plain = copy.deepcopy(model)
    torch.manual_seed(5)
    position = super(type(plain), plain).loss(images)
    assert losses['loss_position'].item() == pytest.approx(
        0.05 * position['loss'].item()
    )

    # MAE's loss by loops: normalised pixels of the masked patches alone.
    torch.manual_seed(5)
    masks = model.draw_masks(4)
    with torch.no_grad():
        features = model.encode_visible(model.backbone.patchify(images)[0], masks)
        predicted = model.pixel_decoder(features, masks.order.argsort(1))
    errors = []
    for b in range(4):
        visible = set(masks.visible[b].tolist())
        for place in set(range(NUM)) - visible:
            row, col = place // COLS * 16, place % COLS * 16
            patch = images[b, :, row : row + 16, col : col + 16]
            pixels = patch.permute(1, 2, 0).flatten().double().numpy()
            pixels = (pixels - pixels.mean()) / np.sqrt(pixels.var(ddof=1) + 1e-6)
            errors.append(np.square(predicted[b, place].numpy() - pixels).mean())
    assert losses['loss_pixel'].item() == pytest.approx(np.mean(errors), rel=1e-4)


def test_mae_head_equals_upstream_on_squares():
    model = multi_task()
    ours = model.pixel_head
    ours.grid_size = (4, 4)
    upstream = MAEPretrainHead(
        loss=dict(type='PixelReconstructionLoss', criterion='L2')
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.patchify(images), upstream.patchify(images))


def test_multi_task_needs_a_weight():
    with pytest.raises(ValueError, match='position_weight must be at least 0, got -1'):
        multi_task(position_weight=-1)


def test_multi_task_needs_masked_patches():
    with pytest.raises(ValueError, match='mask_ratio must be above 0'):
        multi_task(mask_ratio=0)
