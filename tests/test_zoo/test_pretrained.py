"""Pre-trained weights reach a backbone whole, resampled where grids differ, or not."""

import pickle
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.models import VisionTransformer
from torch import nn

from mmpospretrain.models import PositionViT
from mmpospretrain.zoo import has_cls_token, load_backbone
from mmpospretrain.zoo.pretrained import strict_init_cfg

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def vit(**options) -> PositionViT:
    settings = dict(arch=ARCH, img_size=(64, 96), learnable_pos_embed=True)
    return PositionViT(**{**settings, **options})


@pytest.fixture
def source() -> PositionViT:
    torch.manual_seed(0)
    backbone = vit()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    return backbone


@pytest.fixture
def checkpoint(source, tmp_path) -> Path:
    """As MMEngine saves a pre-training on two GPUs, with a head and a meta."""
    weights = {f'module.backbone.{k}': v for k, v in source.state_dict().items()}
    cfg = Config(dict(model=dict(backbone=dict(img_size=(64, 96), patch_size=16))))
    path = tmp_path / 'epoch_1.pth'
    torch.save(
        {
            'state_dict': {**weights, 'module.head.weight': torch.zeros(3)},
            'meta': {'cfg': cfg.pretty_text},
        },
        path,
    )
    return path


def build(scope: str, **cfg) -> nn.Module:
    init_default_scope(scope)
    backbone = MODELS.build(cfg)
    backbone.init_weights()
    return backbone


def assert_loaded(backbone: nn.Module, source: nn.Module, but: tuple = ()) -> None:
    expected = source.state_dict()
    for name, value in backbone.state_dict().items():
        if name not in but:
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


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


def bicubic(patches: torch.Tensor, target: tuple[int, int]) -> torch.Tensor:
    """Keys' kernel, a = -.75, edges repeated, centres aligned; float64, by loops."""

    def kernel(t: float) -> float:
        t = abs(t)
        if t <= 1:
            return 1.25 * t**3 - 2.25 * t**2 + 1
        return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    rows, cols, width = patches.shape
    out = torch.zeros(*target, width, dtype=torch.float64)
    for i in range(target[0]):
        for j in range(target[1]):
            y = (i + 0.5) * rows / target[0] - 0.5
            x = (j + 0.5) * cols / target[1] - 0.5
            for r in range(int(y // 1) - 1, int(y // 1) + 3):
                for c in range(int(x // 1) - 1, int(x // 1) + 3):
                    value = patches[min(max(r, 0), rows - 1), min(max(c, 0), cols - 1)]
                    out[i, j] += kernel(y - r) * kernel(x - c) * value.double()
    return out


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


# --- what must not load: nothing changes, and the error says why


def refuse(backbone: nn.Module, path: Path, match: str, **options) -> None:
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        load_backbone(backbone, path, **options)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name])


def test_wrong_prefix(checkpoint):
    match = (
        r"no key of .* begins with 'encoder\.'; they begin with backbone \(30\), head"
    )
    refuse(vit(), checkpoint, match, prefix='encoder.')


def test_prefix_of_something_else(checkpoint):
    refuse(
        vit(), checkpoint, r'(?s)29 missing.*1 unexpected:\n    weight', prefix='head.'
    )


@pytest.mark.parametrize(
    ('options', 'match'),
    [
        (
            dict(arch=dict(ARCH, embed_dims=64)),
            r'(?s)of another shape:\n    cls_token: \(1, 1, 32\) in the checkpoint, '
            r'\(1, 1, 64\) in the model.*arch',
        ),
        (
            dict(patch_size=8, img_size=(32, 48)),
            r'patch_embed.projection.weight: \(32, 3, 16, 16\) .* \(32, 3, 8, 8\)',
        ),
        (
            dict(arch=dict(ARCH, num_layers=3)),
            r'(?s)12 missing:\n    layers.2.*and 2 more',
        ),
        (
            dict(arch=dict(ARCH, num_layers=1)),
            r'(?s)12 unexpected:\n    layers.1',
        ),
        (dict(layer_scale_init_value=1e-5), r'missing:\n    layers.0.attn.gamma1'),
    ],
    ids=['width', 'patch', 'deeper', 'shallower', 'layer scale'],
)
def test_another_architecture(checkpoint, options, match):
    refuse(vit(**options), checkpoint, match)


def test_a_checkpoint_without_cls(tmp_path):
    path = tmp_path / 'no_cls.pth'
    source = vit(with_cls_token=False)
    torch.save(source.state_dict(), path)
    match = r'(?s)1 missing:\n    cls_token.*with_cls_token=False'
    refuse(vit(), path, match, source_grid=(4, 6))
    target = vit(with_cls_token=False)
    load_backbone(target, path, source_grid=(4, 6))
    assert_loaded(target, source)


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


def test_has_cls_token(ijepa, checkpoint):
    assert has_cls_token(checkpoint)
    assert not has_cls_token(ijepa[0])
    with pytest.raises(FileNotFoundError):
        has_cls_token('nowhere.pth')


def test_no_backbone_inside(tmp_path):
    path = tmp_path / 'resnet.pth'
    torch.save({'conv1.weight': torch.zeros(1), 'fc.bias': torch.zeros(1)}, path)
    refuse(vit(), path, r'no weights of such a backbone.* begin with conv1 \(1\), fc')


def test_truncated(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-500])
    refuse(vit(), checkpoint, 'truncated')


def test_web_page(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<!DOCTYPE html><html>not found</html>')
    refuse(vit(), path, 'is a web page')


def test_no_file(tmp_path):
    refuse(vit(), tmp_path / 'nothing.pth', 'there is no checkpoint')


class Evil:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.mkdir, (self.trace,)


def test_code_is_not_run(tmp_path):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    path.write_bytes(pickle.dumps({'state_dict': Evil(trace)}))
    refuse(vit(), path, 'Nothing of it was executed')
    assert not trace.exists()


def test_a_config_without_a_checkpoint_says_so():
    backbone = vit(init_cfg=dict(type='mmpospretrain.PretrainedBackbone'))
    with pytest.raises(ValueError, match='--pretrained none to train from scratch'):
        backbone.init_weights()
