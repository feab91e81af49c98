"""Small backbones for the tests of the zoo, and what to expect of them."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmpospretrain.models import PositionViT
from mmpospretrain.zoo import load_backbone

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def vit(**options) -> PositionViT:
    settings = dict(arch=ARCH, img_size=(64, 96), learnable_pos_embed=True)
    return PositionViT(**{**settings, **options})


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


def refuse(backbone: nn.Module, path: Path, match: str, **options) -> None:
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        load_backbone(backbone, path, **options)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name])


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
