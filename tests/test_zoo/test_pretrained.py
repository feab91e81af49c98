"""Pre-trained weights reach a backbone whole, resampled where grids differ, or not."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from tiny_backbones import ARCH, assert_loaded, bicubic, build, vit
from torch import nn

from mmpospretrain.zoo import load_backbone, prefix_tokens
from mmpospretrain.zoo.pretrained import strict_init_cfg


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize(
    ('backbone', 'init'),
    [
        ('mmpospretrain.PositionViT', 'mmpospretrain.PretrainedBackbone'),
        ('mmpospretrain.PositionViT', 'Pretrained'),
        ('mmpretrain.VisionTransformer', 'mmpospretrain.PretrainedBackbone'),
    ],
)
def test_init_cfg_in_every_scope(scope, backbone, init, checkpoint, source):
    init_cfg = dict(type=init, checkpoint=str(checkpoint))
    built = build(scope, type=backbone, arch=ARCH, img_size=(64, 96), init_cfg=init_cfg)
    assert_loaded(built, source)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
def test_features_are_those_of_the_pretraining(scope, checkpoint, source):
    """The numbers, on an image, also of a grid that pre-training did not see."""
    init_cfg = dict(type='mmpospretrain.PretrainedBackbone', checkpoint=str(checkpoint))
    for size in ((64, 96), (96, 64)):
        images = torch.randn(2, 3, *size)
        built = build(
            scope,
            type='mmpospretrain.PositionViT',
            arch=ARCH,
            img_size=size,
            out_type='featmap',
            init_cfg=init_cfg,
        )
        patches = source(images)[-1][:, 1:]
        rows, cols = size[0] // 16, size[1] // 16
        expected = patches.transpose(1, 2).unflatten(2, (rows, cols))
        torch.testing.assert_close(built(images)[-1], expected)


def test_an_upstream_vit_keeps_what_was_loaded(checkpoint, source):
    """Its own initialisation, of MLPs and positions, does not come after."""
    upstream = VisionTransformer(
        arch=ARCH,
        img_size=(64, 96),
        init_cfg=dict(
            type='mmpospretrain.PretrainedBackbone', checkpoint=str(checkpoint)
        ),
    )
    upstream.init_weights()
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(upstream(images)[-1], source(images)[-1][:, 0])


def test_initialisers_beside_it_come_first(checkpoint, source):
    others = dict(type='Constant', layer='Linear', val=0.0)
    ours = dict(type='Pretrained', checkpoint=str(checkpoint))
    backbone = vit(init_cfg=[ours, others])
    backbone.init_weights()
    assert_loaded(backbone, source)

    ours = dict(ours, type='mmpospretrain.PretrainedBackbone')
    upstream = VisionTransformer(arch=ARCH, img_size=(64, 96), init_cfg=[ours, others])
    with pytest.raises(ValueError, match='last in init_cfg'):
        upstream.init_weights()


def test_strict_init_cfg_leaves_the_rest_alone():
    cfg = dict(type='TruncNormal', layer='Linear', std=0.02)
    assert strict_init_cfg(None) is None
    assert strict_init_cfg(cfg) == cfg
    pretrained = dict(type='Pretrained', checkpoint='a', prefix='backbone.')
    assert strict_init_cfg([pretrained, cfg]) == [
        cfg,
        dict(pretrained, type='mmpospretrain.PretrainedBackbone'),
    ]
    assert pretrained['type'] == 'Pretrained'


@pytest.mark.parametrize('target', [(4, 6), (6, 4), (8, 12), (2, 3), (5, 5), (1, 7)])
def test_positions_between_any_grids(target, checkpoint, source):
    backbone = vit(img_size=(target[0] * 16, target[1] * 16))
    line = load_backbone(backbone, checkpoint)
    assert_loaded(backbone, source, but=('pos_embed',))
    cls, patches = backbone.pos_embed[0].split([1, target[0] * target[1]])
    assert torch.equal(cls, source.pos_embed[0, :1])
    expected = bicubic(source.pos_embed[0, 1:].unflatten(0, (4, 6)).detach(), target)
    torch.testing.assert_close(
        patches.unflatten(0, target).double(), expected, rtol=1e-4, atol=1e-4
    )
    resampled = f'resampled 4x6 -> {target[0]}x{target[1]}'
    assert (resampled in line) == (target != (4, 6))


def test_the_line_in_the_log(checkpoint):
    backbone = vit(
        img_size=32, with_cls_token=False, out_type='avg_featmap', final_norm=False
    )
    line = load_backbone(backbone, checkpoint)
    name, _, rest = line.partition(': ')
    assert name.startswith(f'{checkpoint} (sha256 ')
    assert rest == (
        "27 keys loaded; 1 outside 'backbone.' skipped; cls_token skipped (no [CLS] "
        'here); ln1 skipped (no final norm here); pos_embed resampled 4x6 -> 2x2; '
        'fresh: ln2.weight, ln2.bias'
    )
    assert backbone.pos_embed.shape == (1, 4, 32)


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_a_prefix_with_or_without_its_dot(prefix, checkpoint, source):
    backbone = vit()
    load_backbone(backbone, checkpoint, prefix=prefix)
    assert_loaded(backbone, source)


@pytest.mark.parametrize('prefix', ['', 'student.vit.'])
def test_other_prefixes_and_no_meta(prefix, source, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({f'{prefix}{k}': v for k, v in source.state_dict().items()}, path)
    backbone = vit()
    with pytest.raises(ValueError, match=r'24 patches, .* 4x4: .*source_grid=\(rows'):
        load_backbone(backbone, path)
    load_backbone(backbone, path, source_grid=(4, 6))
    assert_loaded(backbone, source)


def test_grids_that_lie(checkpoint):
    with pytest.raises(ValueError, match='24 patches, which are no 3x5'):
        load_backbone(vit(), checkpoint, source_grid=(3, 5))


def test_a_meta_of_other_images_gives_way(source, tmp_path):
    """A config that tells nothing, or something else, is no reason to fail."""
    square = vit(img_size=64)
    for cfg in ('', 'model = dict(backbone=dict(img_size=f(1)))', 'a b', 'x=1'):
        path = tmp_path / 'square.pth'
        torch.save({'state_dict': square.state_dict(), 'meta': {'cfg': cfg}}, path)
        target = vit(img_size=64)
        load_backbone(target, path)
        assert_loaded(target, square)


def test_two_backbones_of_equal_right(source, tmp_path):
    weights = source.state_dict()
    both = {
        f'{who}.{k}': v for who in ('student', 'teacher') for k, v in weights.items()
    }
    path = tmp_path / 'both.pth'
    torch.save(both, path)
    with pytest.raises(ValueError, match=r"one of \['student.', 'teacher.'\]"):
        load_backbone(vit(), path)
    load_backbone(vit(), path, prefix='teacher.', source_grid=(4, 6))
    torch.save({**both, **{f'backbone.{k}': v for k, v in weights.items()}}, path)
    load_backbone(vit(), path, source_grid=(4, 6))


@pytest.fixture
def ijepa(tmp_path) -> tuple[Path, nn.Module]:
    """A checkpoint whose teacher is not its student, and the model."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmpospretrain.IJEPA',
            backbone=dict(
                type='mmpospretrain.PositionViT',
                arch=ARCH,
                img_size=(64, 96),
                with_cls_token=False,
            ),
            neck=dict(
                type='mmpospretrain.LatentPredictor',
                embed_dims=24,
                depth=1,
                num_heads=3,
            ),
            min_context=2,
        )
    )
    model.init_weights()
    for parameter in model.target_encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path / 'ijepa.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return path, model


def test_the_teacher_is_taken_unless_the_student_is_asked_for(ijepa):
    path, model = ijepa
    backbone = vit(with_cls_token=False)
    line = load_backbone(backbone, path, source_grid=(4, 6))
    assert_loaded(backbone, model.target_encoder)
    assert "outside 'target_encoder.' skipped" in line
    load_backbone(backbone, path, prefix='backbone.', source_grid=(4, 6))
    assert_loaded(backbone, model.backbone)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_features_without_cls(scope, ijepa):
    """I-JEPA's features in a detector and a segmentor, and the numbers are the same."""
    path, model = ijepa
    images = torch.randn(2, 3, 64, 96)
    expected = model.target_encoder(images)[-1].transpose(1, 2).unflatten(2, (4, 6))
    init_cfg = dict(
        type='mmpospretrain.PretrainedBackbone',
        checkpoint=str(path),
        source_grid=(4, 6),
    )
    options = dict(arch=ARCH, img_size=(64, 96), init_cfg=init_cfg)
    vit_options = dict(out_type='featmap', with_cls_token=False)
    for cfg in (
        dict(type='mmpospretrain.ViTDet', window_size=0, **options),
        dict(type='mmpospretrain.PositionViT', **options, **vit_options),
    ):
        built = build(scope, **cfg).eval()
        torch.testing.assert_close(built(images)[-1], expected)


def test_prefix_tokens(ijepa, checkpoint, tmp_path):
    assert prefix_tokens(checkpoint) == dict(with_cls_token=True, num_registers=0)
    assert prefix_tokens(ijepa[0]) == dict(with_cls_token=False, num_registers=0)
    torch.save(vit(num_registers=3).state_dict(), tmp_path / 'registers.pth')
    tokens = dict(with_cls_token=True, num_registers=3)
    assert prefix_tokens(tmp_path / 'registers.pth') == tokens
    with pytest.raises(FileNotFoundError):
        prefix_tokens('nowhere.pth')
