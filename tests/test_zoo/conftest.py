"""A pre-trained backbone, its checkpoint, and where to fetch it from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_backbones import vit
from torch import nn
from weights_server import WeightsServer

from mmpospretrain.models import PositionViT


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


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Where files are fetched to; no mirror, and no proxy on the way to the server."""
    folder = tmp_path / 'cache'
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(folder))
    monkeypatch.delenv('MMPOSPRETRAIN_MIRROR', raising=False)
    for name in ('NO_PROXY', 'no_proxy'):  # the latter comes first where both are set
        monkeypatch.setenv(name, '127.0.0.1')
    return folder


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds waited between attempts; they pass at once."""
    seconds = []
    monkeypatch.setattr('mmpospretrain.zoo.http_transfer.sleep', seconds.append)
    return seconds


@pytest.fixture
def server(cache, waits) -> Iterator[WeightsServer]:
    with WeightsServer() as running:
        yield running
