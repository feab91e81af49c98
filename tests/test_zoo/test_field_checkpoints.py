"""A pre-training with a field of positions loads into backbones without one."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_backbones import ARCH, assert_loaded, bicubic, build, refuse, vit
from torch import Tensor, nn
from torch.nn import functional as F

from mmpospretrain.models import FieldViT, PositionViT, ViTDet
from mmpospretrain.models.positions import PositionField
from mmpospretrain.zoo import load_backbone

SIZE = 5
STUDENT = dict(seed=0)
TEACHER = dict(seed=1)


def encoder(seed: int, **options) -> tuple[PositionViT, PositionField]:
    """What a FieldViT consists of. Of the ViT's positions only that of [CLS] counts."""
    torch.manual_seed(seed)
    backbone = vit(**options)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    return backbone, PositionField(ARCH['embed_dims'], SIZE, init_std=1.0)


def weights_of(prefix: str, backbone: PositionViT, field: PositionField) -> dict:
    weights = backbone.state_dict()
    weights['pos_embed'] = weights['pos_embed'][:, : backbone.num_extra_tokens]
    weights['field.samples'] = field.samples.detach()
    return {f'{prefix}{key}': value for key, value in weights.items()}


def save(path: Path, cfg: str | None = None, **options) -> Path:
    """As MMEngine saves PosField: student, teacher, heads, and the config."""
    weights = {
        **weights_of('backbone.', *encoder(**STUDENT, **options)),
        **weights_of('target_encoder.', *encoder(**TEACHER, **options)),
        'heads.position.prototypes.weight': torch.zeros(3, 8),
        'target_heads.cls.mlp.0.weight': torch.zeros(8, 32),
        'pos_mask_token': torch.zeros(1, 1, 32),
    }
    meta = dict() if cfg is None else dict(cfg=cfg)
    torch.save(dict(state_dict=weights, meta=meta), path)
    return path


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    backbone = dict(type='mmpospretrain.FieldViT', arch=ARCH, img_size=224)
    cfg = Config(dict(model=dict(type='mmpospretrain.PosField', backbone=backbone)))
    return save(tmp_path / 'epoch_100.pth', cfg.pretty_text)


def expected_positions(seed: int, target: tuple[int, int]) -> Tensor:
    """(1, 1 + N, D), [CLS] first, by loops."""
    backbone, field = encoder(seed)
    patches = bicubic(field.samples.detach(), target).flatten(0, 1)
    return torch.cat((backbone.pos_embed[0, :1], patches))[None]


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize(
    ('backbone', 'init'),
    [
        (dict(type='mmpospretrain.PositionViT'), 'mmpospretrain.PretrainedBackbone'),
        (dict(type='mmpospretrain.PositionViT'), 'Pretrained'),
        (
            dict(type='mmpospretrain.ViTDet', window_size=0),
            'mmpospretrain.PretrainedBackbone',
        ),
        (dict(type='mmpospretrain.ViTDet', window_size=0), 'Pretrained'),
        (dict(type='mmpretrain.VisionTransformer'), 'mmpospretrain.PretrainedBackbone'),
    ],
    ids=lambda option: option if isinstance(option, str) else option['type'],
)
def test_init_cfg_in_every_scope(scope, backbone, init, checkpoint):
    init_cfg = dict(type=init, checkpoint=str(checkpoint))
    built = build(scope, **backbone, arch=ARCH, img_size=(64, 96), init_cfg=init_cfg)
    assert_loaded(built, encoder(**TEACHER)[0], but=('pos_embed',))
    expected = expected_positions(**TEACHER, target=(4, 6))
    found = built.pos_embed.double()
    torch.testing.assert_close(
        found, expected[:, -found.shape[1] :], rtol=1e-5, atol=1e-5
    )
    assert found.shape[1] == 24 + built.num_extra_tokens


@pytest.mark.parametrize('grid', [(4, 6), (6, 4), (5, 5), (1, 7), (2, 3), (9, 12)])
def test_features_are_those_of_the_field(grid, checkpoint):
    """Patches with positions from the field itself, through the teacher's encoder."""
    size = (grid[0] * 16, grid[1] * 16)
    images = torch.randn(2, 3, *size)
    source, field = encoder(**TEACHER)
    patches, _ = source.patchify(images)
    (expected,) = source.encode(patches + field.pos_embed(grid))

    backbone = vit(img_size=size)
    load_backbone(backbone, checkpoint)
    torch.testing.assert_close(backbone(images)[-1], expected)


def test_features_are_those_of_a_field_vit(checkpoint):
    whole = FieldViT(arch=ARCH, img_size=(64, 96), field_size=SIZE)
    plain = vit()
    for backbone in (whole, plain):
        load_backbone(backbone, checkpoint)
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(plain(images)[-1], whole(images)[-1])


@pytest.mark.parametrize('grid', [(4, 6), (7, 7), (8, 3)])
def test_detector(grid, tmp_path):
    """After a pre-training without [CLS] even the features are the same."""
    path = save(tmp_path / 'no_cls.pth', with_cls_token=False)
    size = (grid[0] * 16, grid[1] * 16)
    images = torch.randn(2, 3, *size)
    source, field = encoder(**TEACHER, with_cls_token=False)
    patches, _ = source.patchify(images)
    (expected,) = source.encode(patches + field.pos_embed(grid))

    backbone = ViTDet(arch=ARCH, img_size=size, window_size=0)
    load_backbone(backbone, path)
    found = backbone(images)[-1].flatten(2).mT
    torch.testing.assert_close(found, expected)


def test_detector_on_the_grid_of_1024_pixels(checkpoint):
    backbone = ViTDet(arch=ARCH, img_size=1024, global_layers=(1,))
    line = load_backbone(backbone, checkpoint)
    image = encoder(**TEACHER)[1].samples.permute(2, 0, 1)[None]
    larger = F.interpolate(image, (64, 64), mode='bicubic').flatten(2).mT
    torch.testing.assert_close(backbone.pos_embed, larger, rtol=1e-4, atol=1e-4)
    assert 'pos_embed sampled from the 5x5 field on 64x64 (bicubic)' in line


def test_the_line_in_the_log(checkpoint):
    line = load_backbone(vit(img_size=224), checkpoint)
    assert line.partition(': ')[2] == (
        "30 keys loaded; 34 outside 'target_encoder.' skipped; pos_embed sampled from "
        'the 5x5 field on 14x14 (bicubic)'
    )


def test_the_student_where_it_is_asked_for(checkpoint):
    backbone = vit()
    load_backbone(backbone, checkpoint, prefix='backbone')
    assert_loaded(backbone, encoder(**STUDENT)[0], but=('pos_embed',))
    expected = expected_positions(**STUDENT, target=(4, 6)).float()
    torch.testing.assert_close(backbone.pos_embed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('cfg', 'mode'),
    [
        ("model = dict(backbone=dict(field_mode='bilinear'))", 'bilinear'),
        ("model = dict(backbone=dict(field_mode='bicubic'))", 'bicubic'),
        # Others have backbones as well, and a backbone other options.
        (
            "custom_hooks = [dict(type='KNNHook', backbone='target_encoder')]\n"
            "base = dict(backbone=dict(type='FieldViT', field_mode='bicubic'))\n"
            "model = dict(backbone=dict(arch=dict(depth=2), field_mode='bilinear'))",
            'bilinear',
        ),
        ("model = build(backbone='FieldViT')", 'bicubic'),
        ('model = dict(backbone=dict(img_size=224))', 'bicubic'),
        ("teacher = dict(field_mode='bilinear')", 'bicubic'),
        ('no config at all', 'bicubic'),
        (None, 'bicubic'),
    ],
)
def test_mode_of_the_field(cfg, mode, tmp_path):
    backbone = vit(img_size=(80, 144), interpolate_mode='nearest')
    line = load_backbone(backbone, save(tmp_path / 'epoch_1.pth', cfg))
    image = encoder(**TEACHER)[1].samples.permute(2, 0, 1)[None]
    expected = F.interpolate(image, (5, 9), mode=mode).flatten(2).mT
    torch.testing.assert_close(
        backbone.pos_embed[:, 1:], expected, rtol=1e-4, atol=1e-4
    )
    assert f'field on 5x9 ({mode})' in line


@pytest.mark.parametrize('positions', ['relative', 'none'])
def test_no_use_for_a_field(positions, checkpoint):
    backbone = vit(positions=positions)
    line = load_backbone(backbone, checkpoint)
    assert 'field skipped (no position embedding here)' in line
    assert 'sampled' not in line
    new = [key for key in backbone.state_dict() if 'rel_pos' in key]
    assert_loaded(backbone, encoder(**TEACHER)[0], but=new)


@pytest.mark.parametrize('with_cls_token', [True, False])
def test_a_field_comes_along_as_it_is(with_cls_token, checkpoint):
    backbone = FieldViT(
        arch=ARCH,
        img_size=(64, 96),
        field_size=SIZE,
        with_cls_token=with_cls_token,
        init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)),
    )
    backbone.init_weights()
    source, field = encoder(**TEACHER)
    assert torch.equal(backbone.field.samples, field.samples)
    assert torch.equal(backbone.pos_embed, source.pos_embed[:, : int(with_cls_token)])
    assert_loaded(backbone, source, but=('pos_embed', 'field.samples'))
    assert 'sampled' not in load_backbone(backbone, checkpoint)


def test_loading_draws_no_random_numbers(checkpoint):
    """So that a head is the same, whatever the backbone was loaded from."""
    backbone = vit()
    before = torch.get_rng_state()
    load_backbone(backbone, checkpoint)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_field_alone(tmp_path):
    """Without [CLS], a converter may have left out an embedding of nothing."""
    path = tmp_path / 'alone.pth'
    source, field = encoder(**TEACHER, with_cls_token=False)
    weights = weights_of('', source, field)
    assert weights.pop('pos_embed').shape == (1, 0, 32)
    torch.save(weights, path)
    backbone = vit(with_cls_token=False)
    load_backbone(backbone, path)
    torch.testing.assert_close(backbone.pos_embed, field.pos_embed((4, 6)))


# --- what must not load


def rewrite(path: Path, key: str, value: Tensor | None) -> Path:
    content = torch.load(path)
    content['state_dict'][f'target_encoder.{key}'] = value
    if value is None:
        del content['state_dict'][f'target_encoder.{key}']
    torch.save(content, path)
    return path


def test_a_field_of_another_size(checkpoint):
    backbone = FieldViT(arch=ARCH, img_size=(64, 96), field_size=7)
    match = (
        r'1 of another shape:\n    field.samples: \(5, 5, 32\) in the checkpoint, '
        r'\(7, 7, 32\) in the model'
    )
    refuse(backbone, checkpoint, match)


def test_a_pretraining_without_a_field(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / 'droppos.pth')
    backbone = FieldViT(arch=ARCH, img_size=(64, 96), field_size=SIZE)
    refuse(backbone, tmp_path / 'droppos.pth', r'1 missing:\n    field.samples')


def test_another_width(checkpoint):
    match = r'(?s)of another shape:.*pos_embed: \(1, 25, 32\) .* \(1, 25, 64\)'
    refuse(vit(arch=dict(ARCH, embed_dims=64)), checkpoint, match)


@pytest.mark.parametrize('shape', [(5, 6, 32), (25, 32)])
def test_no_field(shape, checkpoint):
    match = r'field\.samples of shape \(.*32\), which is no field: .*\(F, F, D\)'
    refuse(vit(), rewrite(checkpoint, 'field.samples', torch.zeros(shape)), match)


def test_no_position_of_cls(checkpoint):
    match = r'pos_embed: \(1, 24, 32\) in the checkpoint, \(1, 25, 32\) in the model'
    path = rewrite(checkpoint, 'pos_embed', None)
    refuse(vit(), path, match, prefix='target_encoder.')


def test_an_unknown_mode(tmp_path):
    cfg = "model = dict(backbone=dict(field_mode='nearest'))"
    match = r"mode must be one of \('bicubic', 'bilinear'\), got 'nearest'"
    refuse(vit(), save(tmp_path / 'epoch_1.pth', cfg), match)
