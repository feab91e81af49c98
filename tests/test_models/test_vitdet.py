"""ViTDet against plain loops, against PositionViT, and against MMPretrain's ViTSAM."""

import math

import pytest
import torch
from mmpretrain.models import ViTSAM
from mmpretrain.models.backbones.vit_sam import window_partition
from torch import Tensor, nn

from mmpospretrain.models import PositionViT, SimpleFPN, ViTDet
from mmpospretrain.models.backbones.vitdet import GridAttention, window_mask
from mmpospretrain.zoo import load_backbone

ARCH = dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64)


def vitdet(**options) -> ViTDet:
    torch.manual_seed(0)
    model = ViTDet(**{**dict(arch=ARCH, img_size=128), **options})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def plain_attention(attention: GridAttention, tokens: Tensor, grid: tuple) -> Tensor:
    """Token by token and head by head, in float64; (M, D) to (M, D)."""
    heads = attention.num_heads
    qkv = tokens @ attention.qkv.weight.double().T + attention.qkv.bias.double()
    width = tokens.shape[1] // heads
    out = torch.zeros_like(tokens)
    for head in range(heads):
        q, k, v = (
            qkv[:, (part * heads + head) * width :][:, :width] for part in range(3)
        )
        for i in range(len(tokens)):
            logits = []
            for j in range(len(tokens)):
                logit = q[i] @ k[j] / math.sqrt(width)
                if attention.rel_pos_h is not None:
                    row = i // grid[1] - j // grid[1] + grid[0] - 1
                    col = i % grid[1] - j % grid[1] + grid[1] - 1
                    logit = logit + q[i] @ attention.rel_pos_h[row].double()
                    logit = logit + q[i] @ attention.rel_pos_w[col].double()
                logits.append(logit)
            weights = torch.stack(logits).softmax(0)
            out[i, head * width : (head + 1) * width] = weights @ v
    return out @ attention.proj.weight.double().T + attention.proj.bias.double()


@pytest.mark.parametrize('rel_pos', [False, True])
@pytest.mark.parametrize(('window', 'grid'), [(0, (3, 5)), (4, (4, 4)), (4, (3, 6))])
def test_attention_is_plain_attention_in_each_window(window, grid, rel_pos):
    """Incomplete windows attend among the tokens that they have."""
    size = (grid[0] * 16, grid[1] * 16)
    attention = vitdet(
        img_size=size, window_size=window, global_layers=(), rel_pos=rel_pos
    ).layers[0]
    attention = attention.attn
    x = torch.randn(2, *grid, 32)
    found = attention(x)
    step_r, step_c = (window, window) if window else grid
    for image in range(2):
        for top in range(0, grid[0], step_r):
            for left in range(0, grid[1], step_c):
                place = (
                    image,
                    slice(top, min(top + step_r, grid[0])),
                    slice(left, min(left + step_c, grid[1])),
                )
                tokens = x[place].double()
                rows, cols = tokens.shape[:2]
                if rel_pos and (rows, cols) != (step_r, step_c):
                    continue  # the loop above knows full windows only
                expected = plain_attention(
                    attention, tokens.flatten(0, 1), (rows, cols)
                )
                torch.testing.assert_close(
                    found[place].flatten(0, 1).double(), expected, rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize('grid', [(4, 4), (6, 8), (5, 7), (1, 9)])
def test_the_mask_is_that_of_the_windows(grid):
    x = torch.arange(1.0, 1 + grid[0] * grid[1]).view(1, *grid, 1)
    windows = window_partition(x, 4)[0].flatten(1)  # zero where there is padding
    mask = window_mask(grid, 4, x.device)
    if grid == (4, 4):
        assert mask is None
    else:
        assert torch.equal(mask[:, 0, 0], windows > 0)
        assert int(mask.sum()) == grid[0] * grid[1]


@pytest.mark.parametrize('rel_pos', [False, True])
@pytest.mark.parametrize(
    ('size', 'window'), [((128, 128), 0), ((112, 208), 0), ((128, 64), 4)]
)
def test_equals_vitsam_where_nothing_is_padded(size, window, rel_pos):
    global_layers = (1, 3) if window else (0, 1, 2, 3)
    ours = vitdet(
        img_size=size,
        window_size=window,
        global_layers=global_layers,
        rel_pos=rel_pos,
        final_norm=False,
    )
    theirs = ViTSAM(
        arch=dict(ARCH, global_attn_indexes=list(global_layers)),
        img_size=size,
        window_size=window,
        use_rel_pos=rel_pos,
        out_channels=0,
    )
    theirs.eval()
    weights = ours.state_dict()
    weights['pos_embed'] = weights['pos_embed'].unflatten(1, ours.grid_size)
    theirs.load_state_dict(weights)
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(
        ours(images)[-1], theirs(images)[-1], rtol=1e-4, atol=1e-5
    )


def test_rel_pos_tables_stretch_like_vitsam_s():
    """Global layers meet images of other sizes."""
    ours = vitdet(
        img_size=64, window_size=0, rel_pos=True, final_norm=False, out_indices=[3]
    )
    theirs = ViTSAM(
        arch=dict(ARCH, global_attn_indexes=[0, 1, 2, 3]),
        img_size=64,
        window_size=0,
        use_rel_pos=True,
        out_channels=0,
    )
    theirs.eval()
    weights = ours.state_dict()
    weights['pos_embed'] = weights['pos_embed'].unflatten(1, ours.grid_size)
    theirs.load_state_dict(weights)
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(
        ours(images)[-1], theirs(images)[-1], rtol=1e-4, atol=1e-5
    )


def test_rel_pos_at_zero_changes_nothing():
    plain = vitdet(window_size=3)
    tables = vitdet(window_size=3, rel_pos=True)
    tables.load_state_dict(plain.state_dict(), strict=False)
    for name, parameter in tables.named_parameters():
        if 'rel_pos' in name:
            nn.init.zeros_(parameter)
    images = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(plain(images)[-1], tables(images)[-1])


def pretrained(tmp_path, **options) -> tuple[PositionViT, str]:
    torch.manual_seed(1)
    backbone = PositionViT(arch=ARCH, img_size=128, **options)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    path = tmp_path / 'pretrained.pth'
    torch.save({f'backbone.{k}': v for k, v in backbone.state_dict().items()}, path)
    return backbone.eval(), str(path)


@pytest.mark.parametrize('window', [0, 8])
def test_global_attention_is_position_vit(window, tmp_path):
    """The numbers; one window over the whole map is global attention too."""
    source, path = pretrained(tmp_path, with_cls_token=False)
    detector = ViTDet(arch=ARCH, img_size=128, window_size=window)
    load_backbone(detector, path)
    images = torch.randn(2, 3, 128, 128)
    expected = source(images)[-1].transpose(1, 2).unflatten(2, (8, 8))
    torch.testing.assert_close(detector(images)[-1], expected, rtol=1e-4, atol=1e-5)


def test_cls_stays_behind_and_tables_start_at_zero(tmp_path):
    source, path = pretrained(tmp_path)
    detector = ViTDet(arch=ARCH, img_size=(96, 160), window_size=3, rel_pos=True)
    line = load_backbone(detector, path)
    assert 'cls_token skipped' in line
    assert 'fresh: layers.*.attn.rel_pos_h, layers.*.attn.rel_pos_w' in line
    expected = source.state_dict()
    for name, value in detector.state_dict().items():
        if 'rel_pos' in name:
            assert not value.any()
        elif name != 'pos_embed':
            assert torch.equal(value, expected[name])


def test_global_layers_end_quarters():
    def windows(**options) -> list[int]:
        model = ViTDet(**options)
        return [layer.attn.window_size for layer in model.layers]

    deep = dict(ARCH, num_layers=12)
    assert windows(arch=deep, img_size=64) == [14, 14, 0] * 4
    assert windows(arch=deep, img_size=64, global_layers=(0,)) == [0] + [14] * 11
    assert windows(arch=deep, img_size=64, window_size=0) == [0] * 12
    with pytest.raises(ValueError, match='6 layers do not form quarters'):
        ViTDet(arch=dict(ARCH, num_layers=6))
    with pytest.raises(ValueError, match=r'\[0, 3\], got \(4,\)'):
        ViTDet(arch=ARCH, global_layers=(4,))
    with pytest.raises(ValueError, match='at least 0, got -1'):
        ViTDet(arch=ARCH, window_size=-1)


@pytest.mark.parametrize('size', [(128, 128), (100, 131), (16, 16), (1, 40)])
def test_any_image_size(size):
    model = vitdet(window_size=3, out_indices=[0, 3])
    first, last = model(torch.randn(2, 3, *size))
    grid = math.ceil(size[0] / 16), math.ceil(size[1] / 16)
    assert first.shape == last.shape == (2, 32, *grid)
    assert torch.isfinite(last).all()


def test_padding_is_on_the_right_and_at_the_bottom():
    model = vitdet(window_size=3)
    images = torch.randn(1, 3, 90, 75)
    padded = torch.zeros(1, 3, 96, 80)
    padded[..., :90, :75] = images
    torch.testing.assert_close(model(images)[-1], model(padded)[-1])


def test_checkpointing_changes_no_gradient():
    gradients = []
    for with_cp in (False, True):
        model = vitdet(window_size=3, with_cp=with_cp).train()
        model(torch.randn(1, 3, 64, 64, generator=torch.manual_seed(3)))[
            -1
        ].sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


def test_stochastic_depth_drops_images_not_windows():
    model = vitdet(window_size=2, drop_path_rate=0.5, global_layers=())
    attention = model.layers[-1].attn.train()
    out = attention(torch.randn(64, 4, 4, 32))
    dropped = (out == 0).flatten(1)
    assert torch.equal(dropped.all(1), dropped.any(1))
    assert 10 < int(dropped.all(1).sum()) < 54


def test_layer_depths():
    model = vitdet(window_size=3, rel_pos=True)
    depth = model.get_layer_depth
    assert depth('backbone.pos_embed', 'backbone.') == (0, 6)
    assert depth('backbone.layers.3.attn.rel_pos_h', 'backbone.') == (4, 6)
    assert depth('neck.levels.p2.0.weight', 'backbone.') == (5, 6)


def test_simple_fpn():
    neck = SimpleFPN(in_channels=16, out_channels=8, num_outs=5)
    last = torch.randn(2, 16, 6, 4)
    maps = neck([torch.randn(1), last])
    assert [tuple(m.shape) for m in maps] == [
        (2, 8, 24, 16),
        (2, 8, 12, 8),
        (2, 8, 6, 4),
        (2, 8, 3, 2),
        (2, 8, 2, 1),
    ]
    assert torch.equal(maps[4], maps[3][..., ::2, ::2])
    for level in maps[:4]:  # normed over channels at every place
        torch.testing.assert_close(
            level.mean(1), torch.zeros_like(level[:, 0]), atol=1e-5, rtol=0
        )
    sum(level.square().sum() for level in neck([last])).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_simple_fpn_refuses():
    with pytest.raises(ValueError, match='divisible by 4, got 6'):
        SimpleFPN(in_channels=6)
    with pytest.raises(ValueError, match='at least 4, got 3'):
        SimpleFPN(in_channels=8, num_outs=3)
