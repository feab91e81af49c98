"""MP3: a reference with an explicit mask, golden values, properties, bad input."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from mmpospretrain.models import MP3, PositionViT
from mmpospretrain.models.positions import gather_tokens
from mmpospretrain.models.selfsup.mp3 import Split

ARCH = dict(embed_dims=32, num_layers=3, num_heads=4, feedforward_channels=64)
NUM = 15  # 3 x 5


def build(backbone: dict | None = None, head: dict | None = None, **kwargs) -> MP3:
    torch.manual_seed(0)
    vit = dict(type='mmpospretrain.PositionViT', arch=ARCH, img_size=(48, 80))
    model = MODELS.build(
        dict(
            type='mmpospretrain.MP3',
            backbone={**vit, 'positions': 'none', **(backbone or {})},
            head={'type': 'mmpospretrain.PositionHead', **(head or {})},
            **kwargs,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 48, 80, generator=torch.Generator().manual_seed(1))


def masked_layers(backbone: PositionViT, patches: Tensor, split: Split) -> list[Tensor]:
    """Sec. 3.2 by the letter: all patches in place, and -inf for who is not context.

    Returns:
        What each layer puts out, (B, P + N, D), the last one normed.
    """
    prefix, heads = backbone.num_extra_tokens, backbone.layers[0].attn.num_heads
    x = patches
    if prefix:
        x = torch.cat((backbone.cls_token.expand(len(x), -1, -1), x), dim=1)
    length = x.shape[1]
    mask = torch.full((len(x), length, length), -math.inf, dtype=x.dtype)
    for image, context in enumerate(split.context):
        mask[image, :, :prefix] = 0
        mask[image, :, prefix + context] = 0
    outputs = []
    for layer in backbone.layers:
        qkv = layer.attn.qkv(layer.ln1(x))
        values = []
        for head in range(heads):
            q, k, v = (part.chunk(heads, -1)[head] for part in qkv.chunk(3, -1))
            logits = q @ k.mT / math.sqrt(k.shape[-1]) + mask
            values.append(logits.softmax(-1) @ v)
        x = x + layer.attn.proj(torch.cat(values, -1))
        first, second = layer.ffn.layers[0][0], layer.ffn.layers[1]
        x = x + second(F.gelu(first(layer.ln2(x))))
        outputs.append(x)
    outputs[-1] = backbone.ln1(x)
    return outputs


@pytest.mark.parametrize('with_cls_token', [True, False])
@pytest.mark.parametrize('ratio', [0.0, 0.25, 0.5, 0.75, 0.9])
def test_context_alone_is_looked_at_in_every_layer(images, ratio, with_cls_token):
    """Layer by layer, and the gradients of all weights and of the images."""
    model = build(dict(with_cls_token=with_cls_token), mask_ratio=ratio).double()
    vit, prefix = model.backbone, int(with_cls_token)
    split = model.draw_masks(4, generator=torch.Generator().manual_seed(2))
    parameters = list(vit.parameters())
    weight = torch.randn(4, prefix + NUM, 32).double()
    results = []
    for reference in (False, True):
        pixels = images.double().requires_grad_()
        patches = vit.patchify_own_grid(pixels)
        if reference:
            outputs = masked_layers(vit, patches, split)
        else:
            tokens = gather_tokens(patches, split.ids)
            size = split.context.shape[1]
            outputs = [
                torch.cat(
                    (x[:, :prefix], gather_tokens(x[:, prefix:], split.ids.argsort())),
                    dim=1,
                )
                for x in vit.encode(tokens, range(3), num_context=size)
            ]
        total = sum((weight * x).sum() for x in outputs)
        results.append((outputs, torch.autograd.grad(total, [pixels, *parameters])))
    for ours, theirs in zip(*results, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_keys_are_a_slice(images, monkeypatch):
    """No map of all pairs: attention gets M + 1 keys, and no mask."""
    shapes = []
    fused = F.scaled_dot_product_attention

    def spy(q, k, v, attn_mask=None, **kwargs):
        shapes.append((q.shape[2], k.shape[2], v.shape[2], attn_mask))
        return fused(q, k, v, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', spy)
    build(mask_ratio=0.75)(images, mode='loss')
    assert shapes == [(16, 4, 4, None)] * 3


def test_no_masking_is_a_plain_vit_without_positions(images):
    model = build(mask_ratio=0.0).eval()
    split = model.draw_masks(4)
    (features,) = model.backbone(images)  # row-major, out_type='raw'
    expected = model.head(features)
    logits = model.locate(model.backbone.patchify_own_grid(images), split)
    torch.testing.assert_close(logits, gather_tokens(expected, split.ids))


def test_permuted_patches_give_permuted_logits(images):
    """Nothing but what they show tells patches apart."""
    model = build(mask_ratio=0.5).double().eval()
    patches = model.backbone.patchify_own_grid(images.double())
    split = model.draw_masks(4)
    logits = model.locate(patches, split)
    permutation = torch.randperm(NUM)
    where = permutation.argsort()  # where a patch has gone
    moved = Split(where[split.context], where[split.masked])
    torch.testing.assert_close(model.locate(patches[:, permutation], moved), logits)
    order = torch.randperm(split.context.shape[1])
    mixed = split._replace(context=split.context[:, order])
    expected = torch.cat((logits[:, order], logits[:, len(order) :]), dim=1)
    torch.testing.assert_close(model.locate(patches, mixed), expected)


def test_masked_patches_are_seen_by_nobody(images):
    model = build(mask_ratio=0.5).double().eval()
    patches = model.backbone.patchify_own_grid(images.double())
    split = model.draw_masks(4)
    logits = model.locate(patches, split)
    changed = patches.clone()
    changed[torch.arange(4), split.masked[:, 0]] = torch.randn(32).double()
    difference = (model.locate(changed, split) - logits).abs().amax(-1)  # (B, N)
    size = split.context.shape[1]
    assert (difference[:, size] > 1e-3).all()
    difference[:, size] = 0
    assert difference.max() == 0


@pytest.mark.parametrize(
    ('ratio', 'size'), [(0, 196), (0.3, 137), (0.5, 98), (0.75, 49), (0.9, 19)]
)
def test_number_of_context_patches(ratio, size):
    with torch.device('meta'):
        model = MODELS.build(
            dict(
                type='mmpospretrain.MP3',
                mask_ratio=ratio,
                backbone=dict(type='mmpospretrain.PositionViT', positions='none'),
                head=dict(type='mmpospretrain.PositionHead', depth=0),
            )
        )
    split = model.draw_masks(3)
    assert split.context.shape == (3, size)
    assert split.masked.shape == (3, 196 - size)
    assert split.is_context.sum(1).tolist() == [size] * 3
    assert torch.equal(split.ids.sort().values, torch.arange(196).expand(3, -1))
    assert not torch.equal(split.ids[0], split.ids[1])


def test_loss_and_log(images):
    """Plain cross-entropy over all patches, image by image in float64."""
    model = build(mask_ratio=0.5)
    torch.manual_seed(3)
    result = model(images, mode='loss')
    torch.manual_seed(3)
    split = model.draw_masks(4)
    logits = model.locate(model.backbone.patchify_own_grid(images), split)
    logits = logits.detach().double().numpy()
    losses, correct = [], {True: [], False: []}
    for image, ids in enumerate(split.ids.tolist()):
        for token, place in enumerate(ids):
            row = logits[image, token]
            losses.append(np.log(np.exp(row).sum()) - row[place])
            correct[token < 7].append(row.argmax() == place)
    assert result['loss'].item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert result['context_acc'].item() == pytest.approx(100 * np.mean(correct[True]))
    assert result['masked_acc'].item() == pytest.approx(100 * np.mean(correct[False]))
    assert set(result) == {'loss', 'context_acc', 'masked_acc'}
    model.mask_ratio = 0.0
    assert 'masked_acc' not in model(images, mode='loss')  # there is none to ask


def test_asking_some_of_the_masked_is_right_on_average(images, monkeypatch):
    """Over all turns of the masked patches, losses and gradients average to all."""
    model = build(mask_ratio=0.5).double()
    split = model.draw_masks(4)  # 7 and 8

    def step(query_ratio: float, turn: int) -> tuple[Tensor, Tensor]:
        turned = split._replace(masked=split.masked.roll(turn, dims=1))
        monkeypatch.setattr(model, 'draw_masks', lambda *args, **kwargs: turned)
        model.query_ratio = query_ratio
        loss = model(images.double(), mode='loss')['loss']
        return loss, *torch.autograd.grad(loss, list(model.parameters()))

    whole = step(1.0, 0)
    turns = [step(0.3, turn) for turn in range(8)]  # 3 of 8
    assert abs(turns[0][0] - whole[0]) > 1e-3
    for one, *others in zip(whole, *turns, strict=True):
        torch.testing.assert_close(torch.stack(others).mean(0), one)


def test_the_unasked_cost_nothing(images, monkeypatch):
    model = build(mask_ratio=0.5, query_ratio=0.3)
    lengths = []
    encode = model.backbone.encode

    def spy(patches, *args, **kwargs):
        lengths.append(patches.shape[1])
        return encode(patches, *args, **kwargs)

    monkeypatch.setattr(model.backbone, 'encode', spy)
    model(images, mode='loss')
    model(images, mode='predict')  # asks all
    assert lengths == [7 + 3, NUM]


def test_activation_checkpointing_changes_nothing(images):
    results = []
    for with_cp in (False, True):
        model = build(dict(with_cp=with_cp), mask_ratio=0.5)
        torch.manual_seed(0)
        loss = model(images, mode='loss')['loss']
        results.append(torch.autograd.grad(loss, list(model.parameters())))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_predictions(images):
    """They do not touch the randomness of training, and say who was context."""
    model = build(mask_ratio=0.75).eval()
    state = torch.get_rng_state()
    first, again = (model(images, mode='predict') for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.position_ids, b.position_ids)
        assert a.position_dropped.all()
        assert a.position_context.tolist() == [True] * 3 + [False] * 12


def test_a_checkpoint_is_an_ordinary_vit_without_pos_embed():
    ours = build().backbone.state_dict()
    theirs = MODELS.build(
        dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=(48, 80))
    ).state_dict()
    assert theirs.keys() - ours.keys() == {'pos_embed'}
    assert not ours.keys() - theirs.keys()
    assert all(ours[key].shape == theirs[key].shape for key in ours)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mask_ratio=1.0), r'mask_ratio must lie in \[0, 1\), got 1.0'),
        (dict(mask_ratio=-0.1), r'mask_ratio must lie in \[0, 1\), got -0.1'),
        (dict(query_ratio=0.0), r'query_ratio must lie in \(0, 1\], got 0.0'),
        (
            dict(backbone=dict(positions='sincos')),
            "positions='none', got 'sincos'",
        ),
        (
            dict(backbone=dict(positions='relative')),
            "positions='none', got 'relative'",
        ),
        (dict(head=dict(depth=2)), 'head of MP3 has depth=0, got 2'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_other_backbones():
    vit = dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=(48, 80))
    head = dict(type='mmpospretrain.PositionHead', depth=0)
    with pytest.raises(ValueError, match=r'needs an mmpospretrain\.PositionViT'):
        MODELS.build(dict(type='mmpospretrain.MP3', backbone=vit, head=head))


def test_bad_images():
    with pytest.raises(ValueError, match=r'tells \(3, 5\) places apart'):
        build()(torch.zeros(1, 3, 48, 48), mode='loss')
