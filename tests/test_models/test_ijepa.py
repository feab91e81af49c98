"""I-JEPA: golden values, properties, bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from mmpospretrain.models import IJEPA
from mmpospretrain.models.positions import BlockIds
from mmpospretrain.models.selfsup.ijepa import feature_std

CONFIG = Path(__file__).parents[2] / 'configs/_base_/models/ijepa_vit-base-p16.py'
GRID = ROWS, COLS = 6, 8
BACKBONE = dict(
    type='mmpospretrain.PositionViT',
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    img_size=(96, 128),
    with_cls_token=False,
)
NECK = dict(type='mmpospretrain.LatentPredictor', embed_dims=24, depth=2, num_heads=3)


def build(**kwargs) -> IJEPA:
    torch.manual_seed(0)
    cfg = dict(type='mmpospretrain.IJEPA', backbone=BACKBONE, neck=NECK, min_context=4)
    model = MODELS.build({**cfg, **kwargs})
    model.init_weights()
    return model


@pytest.fixture
def images():
    return torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(1))


def numpy_smooth_l1(predictions, targets):
    total = [
        0.5 * d * d if abs(d) < 1 else abs(d) - 0.5
        for d in (predictions - targets).ravel()
    ]
    return np.mean(total)


def test_loss(images):
    """Image by image and block by block, targets normed in float64."""
    model = build().double()
    # A student that has moved on, and an encoder with stochastic depth.
    for weight in model.backbone.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    images = images.double()
    torch.manual_seed(5)
    losses = model(images, mode='loss')
    torch.manual_seed(5)
    ids = model.draw_masks(3)

    blocks = []
    for image, context, targets in zip(images, ids.context, ids.targets, strict=True):
        vit, predictor = model.backbone, model.neck
        tokens = (vit.patchify(image[None])[0] + vit.pos_embed)[:, context]
        features = vit.encode(tokens)[-1]
        full = model.target_encoder(image[None])[-1][0].numpy()
        full = (full - full.mean(1, keepdims=True)) / np.sqrt(
            full.var(1, keepdims=True) + 1e-5
        )
        for block in targets:
            where = predictor.pos_embed[0]
            tokens = torch.cat(
                (
                    predictor.embed(features)[0] + where[context],
                    predictor.mask_token[0] + where[block],
                )
            )
            tokens = predictor.layers(tokens[None])[0, len(context) :]
            predictions = predictor.predict(predictor.norm(tokens)).detach().numpy()
            blocks.append(numpy_smooth_l1(predictions, full[block]))
    assert len(blocks) == 3 * 4
    assert losses['loss'].item() == pytest.approx(np.mean(blocks), rel=1e-9)


def test_gradient_reaches_student_and_predictor_but_never_the_teacher(images):
    model = build()
    model.train()
    model(images, mode='loss')['loss'].backward()
    fixed = {'backbone.pos_embed', 'neck.pos_embed'}
    for name, weight in model.named_parameters():
        trained = not name.startswith('target_encoder.') and name not in fixed
        assert (weight.grad is not None) == trained == weight.requires_grad, name
        assert not trained or weight.grad.abs().sum() > 0 or 'qkv.bias' in name, name


def test_learned_positions_get_gradient(images):
    backbone = dict(BACKBONE, learnable_pos_embed=True)
    model = build(backbone=backbone, neck=dict(NECK, learnable_pos_embed=True))
    model(images, mode='loss')['loss'].backward()
    assert model.backbone.pos_embed.grad.abs().sum() > 0
    assert model.neck.pos_embed.grad.abs().sum() > 0
    assert not model.target_encoder.pos_embed.requires_grad


def test_teacher_starts_as_the_student_and_drops_nothing(images):
    model = build(backbone=dict(BACKBONE, drop_path_rate=0.5)).train()
    teacher, student = model.target_encoder, model.backbone
    for name, weight in student.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], weight), name
    assert student.training
    assert not any(module.training for module in teacher.modules())
    assert torch.equal(model.encode_target(images), model.encode_target(images))


def test_the_context_encoder_sees_the_context_only(images):
    model = build()
    ids = torch.tensor([[0, 1, 9, 47]]).expand(3, -1)
    features = model.encode_context(images, ids)
    changed = images.clone()
    changed[:, :, 16 * 3 : 16 * 5] = 9.0  # rows 3 and 4 of the grid
    assert torch.equal(model.encode_context(changed, ids), features)
    changed[:, :, :16, :16] = 9.0  # patch 0
    assert not torch.allclose(model.encode_context(changed, ids), features)


def test_blocks_are_predicted_apart(images):
    """What one block asks for has no say in another."""
    model = build().eval()
    ids = model.draw_masks(3, torch.Generator().manual_seed(0))
    features = model.encode_context(images, ids.context)
    together = model.neck(features, ids)
    assert together.shape == (*ids.targets.shape, 32)
    alone = model.neck(features, ids._replace(targets=ids.targets[:, 2:3]))
    torch.testing.assert_close(together[:, 2:3], alone)


def test_targets_are_normed_features_of_the_whole_image(images):
    model = build()
    features = model.encode_target(images)
    assert features.shape == (3, ROWS * COLS, 32)
    torch.testing.assert_close(features.mean(-1), torch.zeros(3, 48), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        features.var(-1, correction=0), torch.ones(3, 48), atol=1e-3, rtol=0
    )
    assert not features.requires_grad


def test_feature_std():
    """By hand: 2 and 3 from their means in channel 0, channel 1 is always 5."""
    features = torch.tensor([[[0.0, 5], [2, 5]], [[4, 5], [8, 5]]])
    assert feature_std(features).item() == pytest.approx((2 + 0 + 3 + 0) / 4)
    assert feature_std(torch.ones(4, 7, 3)) == 0


def test_feature_std_is_that_of_images_not_of_places():
    places = torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(0))
    assert feature_std(places.expand(4, -1, -1)) == 0
    images = places.mT.reshape(7, 1, 3).expand(-1, 5, -1)
    assert feature_std(images) > 0.5
    # There is no other image: its patches tell at least whether all are the same.
    expected = places[0].numpy().std(axis=0).mean()
    assert feature_std(places).item() == pytest.approx(expected)
    assert feature_std(torch.ones(1, 7, 3)) == 0


def test_a_teacher_blind_to_content_is_seen(images):
    """It still tells places apart, and that alone used to count."""
    model = build()
    assert model(images, mode='loss')['target_std'] > 0.4
    torch.nn.init.zeros_(model.target_encoder.patch_embed.projection.weight)
    features = model.encode_target(images)
    assert features.flatten(0, 1).std(0).mean() > 0.3
    assert model(images, mode='loss')['target_std'] < 1e-5


def test_logged(images):
    losses = build()(images, mode='loss')
    assert losses.keys() == {'loss', 'target_std'}
    assert 0 < losses['target_std'] <= 1


def test_block_ids_travel_together():
    ids = BlockIds(torch.zeros(1, 2), torch.zeros(1, 3, 4), (2, 2)).to('meta')
    assert ids.context.is_meta
    assert ids.targets.is_meta
    assert ids.target_size == (2, 2)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(backbone=dict(BACKBONE, with_cls_token=True)), 'with_cls_token=False'),
        (dict(min_context=49), 'min_context=49 or more .* grid of 6x8 in only 0 of'),
        # One draw of one image would do; the next ones need not.
        (dict(min_context=27), 'min_context=27 or more .* in only .* lower min_con'),
        # Half of the draws would do; the largest blocks leave nothing.
        (
            dict(target_scale=(0.01, 1.0), target_aspect=(0.75, 0.75)),
            '4 targets of 6x8 patches leave .* lower min_context, num_targets or',
        ),
        (dict(target_scale=(0.3, 0.2)), 'target_scale must be an ascending range'),
        (dict(num_targets=0), 'num_targets must be at least 1, got 0'),
        (dict(min_context=0), 'min_context must be at least 1, got 0'),
        (dict(target_scale=0.2), r'target_scale must be a pair \(low, high\), got 0.2'),
        (dict(neck=dict(NECK, depth=0)), 'depth must be at least 1, got 0'),
        (dict(neck=dict(NECK, num_heads=5)), 'num_heads 5 does not divide .* 24'),
    ],
)
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_images_of_another_size(images):
    with pytest.raises(ValueError, match=r'tells \(6, 8\) places apart'):
        build()(images[..., :64], mode='loss')


def test_ranks_agree_on_sizes_and_not_on_places():
    model = build()
    sizes, places = [], []
    for step in range(20):
        drawn = []
        for rank in range(2):
            torch.manual_seed(1000 * step + rank)
            model.shared_seed = step
            drawn.append(model.draw_masks(2))
        one, other = drawn
        assert one.target_size == other.target_size
        sizes.append(one.target_size)
        places.append(torch.equal(one.targets, other.targets))
    assert len(set(sizes)) > 1
    assert not all(places)


def test_what_init_cfg_reaches():
    """As the base config says: not the FFNs and the patches of the backbone."""
    cfg = Config.fromfile(CONFIG).model
    model = build(
        init_cfg=cfg.init_cfg,
        backbone=dict(BACKBONE, arch=dict(BACKBONE['arch'], embed_dims=128)),
        neck=dict(NECK, embed_dims=96),
    )
    xavier = {  # √(2 / (inputs + outputs))
        'backbone.layers.0.ffn.layers.0.0.weight': (2 / (128 + 64)) ** 0.5,
        'backbone.layers.1.ffn.layers.1.weight': (2 / (64 + 128)) ** 0.5,
        'backbone.patch_embed.projection.weight': (2 / (3 * 16**2 + 128)) ** 0.5,
    }
    reached = (
        'backbone.layers.0.attn.qkv.weight',
        'backbone.layers.1.attn.proj.weight',
        'neck.embed.weight',
        'neck.layers.0.attn.qkv.weight',
        'neck.layers.1.ffn.layers.0.0.weight',
        'neck.predict.weight',
    )
    weights = model.state_dict()
    for name, std in {**xavier, **dict.fromkeys(reached, 0.02)}.items():
        assert weights[name].std().item() == pytest.approx(std, rel=0.05), name
