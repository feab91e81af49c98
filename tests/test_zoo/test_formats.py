"""Published checkpoints are recognised by their keys, and give their own features.

The reference is timm, which loads the documented names strictly.
"""

import numpy as np
import official
import pytest
import timm
import torch
from mmpretrain.models import VisionTransformer
from tiny_backbones import ARCH, assert_loaded, refuse, vit

from mmpospretrain.models import PositionViT, ViTDet
from mmpospretrain.zoo import load_backbone, prefix_tokens
from mmpospretrain.zoo.formats import flat_weights, recognise

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def save(tmp_path):
    def write(checkpoint):
        torch.save(checkpoint, tmp_path / 'official.pth')
        return tmp_path / 'official.pth'

    return write


def assert_features(backbone, weights, images=IMAGES, **options) -> None:
    """Those of timm's ViT with ``weights``, which are all that it has.

    Of registers, ours says nothing.
    """
    reference = official.timm_vit(**options)
    reference.load_state_dict(weights)
    with torch.no_grad():
        features = backbone.eval()(images)[-1]
        expected = reference.forward_features(images)
    cls = int(reference.has_class_token)
    registers = slice(cls, cls + reference.num_reg_tokens)
    expected = torch.from_numpy(np.delete(expected.numpy(), registers, axis=1))
    assert expected.std() > 0.1
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def without_module(weights, prefix='') -> dict:
    keys = {key: key.removeprefix('module.').removeprefix(prefix) for key in weights}
    return {keys[key]: value for key, value in weights.items() if prefix in key}


MAE_PARTS = 'mask_token, decoder_pos_embed, decoder_embed, decoder_blocks, decoder_norm'


@pytest.mark.parametrize(
    ('checkpoint', 'note'),
    [
        (official.mae, f'MAE; 20 of other parts skipped ({MAE_PARTS}, decoder_pred)'),
        (
            official.droppos,
            'DropPos; 19 of other parts skipped (mask_pos_token, decoder_embed, '
            'decoder_blocks, decoder_norm, decoder_pred)',
        ),
        (lambda: official.droppos(True), 'DropPos; 39 of other parts skipped ('),
        (lambda: {'model': official.encoder()}, 'timm ViT'),
        (official.encoder, 'timm ViT'),
        (lambda: official.encoder(cls=False), 'timm ViT'),
    ],
    ids=['mae', 'droppos', 'droppos multi-task', 'wrapped', 'bare', 'no cls'],
)
def test_one_backbone(checkpoint, note, save):
    content = checkpoint()
    weights = content.get('model', content)
    cls = 'cls_token' in weights
    path = save(content)
    backbone = vit(img_size=64, with_cls_token=cls)
    line = load_backbone(backbone, path)
    assert f'keys loaded; recognised as {note}' in line
    wanted = official.encoder().keys() & weights.keys()
    options = {} if cls else dict(class_token=False, global_pool='avg', fc_norm=False)
    assert_features(backbone, {key: weights[key] for key in wanted}, **options)
    assert prefix_tokens(path)['with_cls_token'] == cls


def test_fine_tuned_has_no_final_norm(save):
    """The one after pooling is loaded where there is pooling."""
    content = official.fine_tuned()
    path = save(content)
    refuse(vit(img_size=64), path, r'(?s)2 missing:\n    ln1.*final_norm=False')
    backbone = vit(img_size=64, final_norm=False)
    line = load_backbone(backbone, path)
    assert 'timm ViT; 2 of other parts skipped (head); ln2 skipped' in line
    del content['model']['head.weight'], content['model']['head.bias']
    assert_features(backbone, content['model'], global_pool='avg', fc_norm=True)
    pooling = vit(img_size=64, final_norm=False, out_type='avg_featmap')
    load_backbone(pooling, path)
    assert torch.equal(pooling.ln2.weight, content['model']['fc_norm.weight'])


@pytest.mark.parametrize(
    ('prefix', 'encoder'), [(None, 'target_encoder'), ('encoder', 'encoder')]
)
def test_ijepa_and_stop(prefix, encoder, save):
    checkpoint = official.ijepa()
    backbone = vit(img_size=64, with_cls_token=False)
    line = load_backbone(backbone, save(checkpoint), prefix=prefix)
    others = {'target_encoder': 'encoder, predictor'}
    parts = others.get(encoder, 'predictor, target_encoder')
    assert f"as I-JEPA or StoP, '{encoder}'; " in line
    assert f'of other parts skipped ({parts})' in line
    options = dict(class_token=False, global_pool='avg', fc_norm=False)
    assert_features(backbone, without_module(checkpoint[encoder]), **options)


@pytest.mark.parametrize('make', [official.dino, official.ibot])
@pytest.mark.parametrize('who', ['teacher', 'student'])
def test_dino_and_ibot(make, who, save):
    checkpoint = make()
    backbone = vit(img_size=64)
    prefix = None if who == 'teacher' else 'student.backbone.'
    line = load_backbone(backbone, save(checkpoint), prefix=prefix)
    assert f"recognised as DINO or iBOT, '{who}.backbone'; " in line
    assert f'{who}.head' in line
    weights = without_module(checkpoint[who], 'backbone.')
    weights.pop('masked_embed', None)
    assert_features(backbone, weights)


LAYER_SCALE = dict(layer_scale_init_value=1e-5)


def test_dinov2(save):
    weights = official.dinov2()
    backbone = vit(img_size=56, patch_size=14, **LAYER_SCALE)
    line = load_backbone(backbone, save(weights))
    assert 'recognised as DINOv2; 1 of other parts skipped (mask_token)' in line
    del weights['mask_token']
    options = dict(img_size=56, patch_size=14, init_values=1.0)
    assert_features(backbone, weights, IMAGES[..., :56, :56], **options)


def test_dinov2_in_training(save):
    """Its layers are in chunks, under the names of which they keep their index."""
    weights = official.dinov2()
    plain = vit(img_size=56, patch_size=14, **LAYER_SCALE)
    load_backbone(plain, save(weights))
    backbone = vit(img_size=56, patch_size=14, **LAYER_SCALE)
    line = load_backbone(backbone, save(official.dinov2_training(weights)))
    assert "as DINOv2, 'teacher.backbone'; 2 of other parts skipped (" in line
    assert 'teacher.dino_head' in line
    assert_loaded(backbone, plain)


def test_layer_scale_is_not_lost(save):
    match = r'(?s)unexpected:.*attn\.gamma1.*layer_scale_init_value above 0'
    refuse(vit(img_size=56, patch_size=14), save(official.dinov2()), match)


@pytest.mark.parametrize(
    ('key', 'shape', 'match'),
    [
        ('dist_token', (1, 1, 32), 'has a distillation token'),
        ('blocks.0.attn.q_norm.weight', (8,), r'knows 1 of its keys.*q_norm\.weight'),
        ('neck.0.weight', (8,), r'knows 1 of its keys.*: neck\.0\.weight$'),
        ('blocks.0.norm1.scale', (8,), r': blocks\.0\.norm1\.scale$'),
    ],
)
def test_what_is_left_over_is_refused(key, shape, match, save):
    path = save({**official.encoder(), key: torch.zeros(shape)})
    refuse(vit(img_size=64), path, match)


def test_what_is_missing_is_refused(save):
    weights = official.mae()
    del weights['model']['blocks.1.mlp.fc2.bias']
    match = r'(?s)1 missing:\n    layers\.1\.ffn\.layers\.1\.bias'
    refuse(vit(img_size=64), save(weights), match)


def test_patches_of_14_pixels_become_those_of_16(save):
    """A patch that is drawn larger gives the token that it gave before."""
    checkpoint = official.dinov2(grid=5)
    backbone = vit(img_size=64, **LAYER_SCALE)
    line = load_backbone(backbone, save(checkpoint))
    assert 'patch embedding resampled 14x14 -> 16x16 pixels' in line
    assert 'pos_embed resampled 5x5 -> 4x4' in line
    small = torch.randn(3, 3, 14, 14)
    large = torch.nn.functional.interpolate(
        small, size=16, mode='bicubic', antialias=True
    )
    kernel = checkpoint['patch_embed.proj.weight']
    expected = torch.einsum('bchw,dchw->bd', small, kernel)
    kernel = backbone.patch_embed.projection.weight
    tokens = torch.einsum('bchw,dchw->bd', large, kernel)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


def test_other_patches_are_refused(save):
    path = save(official.encoder(patch=8))
    refuse(vit(img_size=64), path, r'\(32, 3, 8, 8\) .* \(32, 3, 16, 16\)')


def test_a_choice_is_asked_for(save):
    weights = official.encoder()
    both = {f'{who}.{k}': v for who in ('one', 'two') for k, v in weights.items()}
    path = save(both)
    refuse(vit(img_size=64), path, r"several backbones.* \['one\.', 'two\.'\]")
    refuse(vit(img_size=64), path, "no backbone with prefix 'six.'", prefix='six')
    load_backbone(vit(img_size=64), path, prefix='two')


def test_the_suites_own_are_none_of_these(checkpoint):
    weights = flat_weights(torch.load(checkpoint))
    assert 'backbone.ln1.weight' in weights
    assert recognise(weights) is None
    assert recognise({'conv1.weight': torch.zeros(1)}) is None


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        (dict(), dict()),
        (
            dict(class_token=False, global_pool='avg', fc_norm=False),
            dict(with_cls_token=False),
        ),
        (dict(init_values=1.0), LAYER_SCALE),
        (dict(no_embed_class=True), dict()),
        (dict(no_embed_class=True, init_values=1.0), LAYER_SCALE),  # DeiT III
        (dict(pre_norm=True), dict(pre_norm=True)),  # CLIP's
        (dict(qkv_bias=False), dict(qkv_bias=False)),
        (dict(final_norm=False), dict(final_norm=False)),
        (dict(img_size=(64, 96)), dict(img_size=(64, 96))),
        (dict(reg_tokens=4), dict(num_registers=4)),
        (
            dict(reg_tokens=4, no_embed_class=True, init_values=1.0),  # DINOv2 in timm
            dict(num_registers=4, **LAYER_SCALE),
        ),
        (
            dict(reg_tokens=3, class_token=False, global_pool='avg', fc_norm=False),
            dict(num_registers=3, with_cls_token=False),
        ),
        (
            dict(reg_tokens=4, img_size=(64, 96)),
            dict(num_registers=4, img_size=(64, 96)),
        ),
    ],
    ids=lambda options: ' '.join(options) or 'plain',
)
def test_features_of_timm(theirs, ours, save):
    weights = official.timm_vit(**theirs).state_dict()
    size = theirs.get('img_size', (64, 64))
    backbone = vit(**{'img_size': 64, **ours})
    load_backbone(backbone, save(weights), source_grid=(size[0] // 16, size[1] // 16))
    images = torch.randn(2, 3, *size)
    assert_features(backbone, weights, images, **theirs)


def test_gated_mlp_of_timm(save):
    """DINOv2's giant: one matrix for gate and values."""
    from timm.layers import SwiGLUPacked

    options = dict(mlp_layer=SwiGLUPacked, act_layer=torch.nn.SiLU, mlp_ratio=4)
    weights = official.timm_vit(**options).state_dict()
    hidden = weights['blocks.0.mlp.fc2.weight'].shape[1]
    arch = dict(ARCH, feedforward_channels=round(hidden * 3 / 2))
    ours = vit(arch=arch, img_size=64, layer_cfgs=dict(ffn_type='swiglu_fused'))
    load_backbone(ours, save(weights))
    assert_features(ours, weights, **options)


def with_registers(weights):
    return {**weights, 'register_tokens': torch.randn(1, 4, 32)}


@pytest.mark.parametrize(
    ('make', 'img_size', 'options', 'note'),
    [
        # 1 + 49 positions, which might be 5 x 10 without [CLS]
        (lambda: official.encoder(grid=7), (80, 160), {}, '7x7 -> 5x10'),
        # 1 + 196, which might be 12 x 16 with [CLS] and registers
        (
            lambda: with_registers(official.dinov2(16, 14)),
            (192, 256),
            dict(num_registers=4, **LAYER_SCALE),
            '14x14 -> 12x16',
        ),
    ],
)
def test_positions_are_not_mistaken(make, img_size, options, note, save):
    """By what a target's grid happens to be."""
    assert note in load_backbone(vit(img_size=img_size, **options), save(make()))


def test_dinov2_with_registers(save):
    """Its registers have no positions, and [CLS] has one."""
    weights = with_registers(official.dinov2())
    backbone = vit(img_size=56, patch_size=14, num_registers=4, **LAYER_SCALE)
    assert 'recognised as DINOv2; ' in load_backbone(backbone, save(weights))
    theirs = {k: v for k, v in weights.items() if k != 'mask_token'}
    cls, patches = theirs['pos_embed'].tensor_split([1], dim=1)
    # timm's way to say the same, as in its own files of these weights.
    theirs['cls_token'] = theirs['cls_token'] + cls
    theirs |= dict(pos_embed=patches, reg_token=theirs.pop('register_tokens'))
    options = dict(img_size=56, patch_size=14, reg_tokens=4, no_embed_class=True)
    assert_features(backbone, theirs, IMAGES[..., :56, :56], init_values=1.0, **options)


@pytest.mark.parametrize(
    ('backbone', 'match'),
    [
        (vit, r'(?s)unexpected:.*register_tokens.*num_registers=4, as'),
        (VisionTransformer, '(?s)num_registers=4, .*VisionTransformer have not'),
        (ViTDet, '(?s)num_registers=4, .*ViTDet and'),
    ],
)
def test_registers_are_not_lost(backbone, match, save):
    path = save(with_registers(official.encoder()))
    refuse(backbone(arch={**ARCH, 'num_layers': 4}, img_size=64), path, match)


def test_registers_are_not_made_up(save):
    match = r'(?s)missing:.*register_tokens.*num_registers=0, as'
    refuse(vit(img_size=64, num_registers=4), save(official.encoder()), match)


@pytest.mark.parametrize(
    ('name', 'theirs', 'ours'),
    [
        ('vit_base_patch16_224', dict(), dict()),
        ('vit_base_patch16_224', dict(reg_tokens=4), dict(num_registers=4)),
        (
            'vit_base_patch16_224',
            dict(class_token=False, global_pool='avg', fc_norm=False),
            dict(with_cls_token=False),
        ),
        ('deit3_base_patch16_224', dict(), LAYER_SCALE),
        (
            'vit_base_patch14_reg4_dinov2',
            dict(img_size=224),
            dict(patch_size=14, num_registers=4, **LAYER_SCALE),
        ),
    ],
)
def test_a_vit_base_of_timm(name, theirs, ours, save):
    """The real size, patches and positions."""
    reference = timm.create_model(name, num_classes=10, **theirs)
    torch.manual_seed(0)
    official.randomise(reference, std=0.02)
    backbone = PositionViT(**ours).eval()
    line = load_backbone(backbone, save(reference.state_dict()))
    assert 'recognised as timm ViT; 2 of other parts skipped (head)' in line
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        features, expected = backbone(images)[-1], reference.forward_features(images)
    patches = slice(-backbone.patch_positions().shape[1], None)
    places = [patches, 0] if backbone.with_cls_token else [patches]
    for place in places:  # all but registers
        torch.testing.assert_close(
            features[:, place], expected[:, place], rtol=1e-5, atol=1e-5
        )
