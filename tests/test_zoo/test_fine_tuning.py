"""From a published PosField to the first steps of a detector and of a segmentor."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from tiny_backbones import bicubic
from torch import Tensor, nn

from mmpospretrain.datasets.photoshapes import generate
from mmpospretrain.engine import cli
from mmpospretrain.zoo import registry
from mmpospretrain.zoo.loading import load_checkpoint_file

ROOT = Path(__file__).parents[2]
NAME = 'posfield_tiny'
PRETRAINING = f"""
_base_ = {str(ROOT / 'configs/posfield/posfield_vit-tiny-p16_photoshapes.py')!r}
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, feedforward_channels=64),
        field_size=5,
    ),
    head=dict(num_prototypes=16, hidden_dims=8, bottleneck_dims=8),
)
"""
METAFILE = f"""
Collections: [Name: PosField]
Models:
- Name: {NAME}
  In Collection: PosField
  Metadata: {{Epochs: 1}}
  Config: configs/{NAME}.py
"""
SHORT = [
    'train_cfg.max_iters=2',
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
    'param_scheduler.1.end=2',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=2',
    'model.backbone.arch.embed_dims=32',
    'model.backbone.arch.feedforward_channels=64',
]
FINE_TUNINGS = {
    'detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py': ['model.neck.in_channels=32'],
    'segmentation/upernet_vit-tiny-p16_photoshapes.py': [
        'model.neck.embed_dim=32',
        'model.decode_head.in_channels=[32,32,32,32]',
        'model.auxiliary_head.in_channels=32',
    ],
}


class Watch(Hook):
    """Keeps the backbone of the first step, and the losses of all."""

    def __init__(self) -> None:
        self.backbone: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []

    def before_train_iter(self, runner: Runner, **others) -> None:
        if not self.backbone:
            weights = runner.model.backbone.state_dict()
            self.backbone = {key: value.clone() for key, value in weights.items()}

    def after_train_iter(self, runner: Runner, outputs: dict, **others) -> None:
        self.losses.append(outputs['loss'])


@pytest.fixture
def watch(monkeypatch) -> Watch:
    """In every training."""
    watch, build = Watch(), cli.build_runner

    def build_watched(cfg: Config) -> Runner:
        runner = build(cfg)
        runner.register_hook(watch)
        return runner

    monkeypatch.setattr(cli, 'build_runner', build_watched)
    return watch


@pytest.fixture(scope='module')
def photoshapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('photoshapes')
    generate(folder, images=4, val_images=2, quiet=True)
    return folder


@pytest.fixture
def published(tool, server, tmp_path, monkeypatch) -> dict[str, Tensor]:
    """The weights behind ``zoo://posfield_tiny``, student and teacher not the same."""
    config = tmp_path / f'configs/{NAME}.py'
    config.parent.mkdir()
    config.write_text(PRETRAINING)
    metafile = config.with_name('metafile.yml')
    metafile.write_text(METAFILE)
    (tmp_path / 'model-index.yml').write_text('Import: [configs/metafile.yml]\n')

    torch.manual_seed(0)
    cfg = Config.fromfile(config)
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    checkpoint, out = tmp_path / 'epoch_1.pth', tmp_path / 'published'
    meta = dict(cfg=cfg.pretty_text, epoch=1)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)

    base = server.put('/zoo')
    arguments = (checkpoint, '--out', out, '--url', base)
    assert tool('publish_model.py', config, *arguments) is None
    (path,) = out.iterdir()
    server.put(f'/zoo/{path.name}', path.read_bytes())
    zoo = registry.entries(tmp_path)
    monkeypatch.setattr(registry, 'entries', lambda: zoo)
    return load_checkpoint_file(path)['state_dict']


@pytest.mark.parametrize('config', FINE_TUNINGS)
def test_two_steps_from_the_zoo(
    config, published, photoshapes, server, tool, watch, tmp_path
):
    work_dir = tmp_path / 'work'
    error = tool(
        *('train.py', ROOT / 'configs/transfer' / config, '--data', photoshapes),
        *('--pretrained', f'zoo://{NAME}', '--no-validate', '--work-dir', work_dir),
        *('--cfg-options', *SHORT, *FINE_TUNINGS[config]),
    )
    assert error is None

    # One transfer, named in the log with its hash.
    entry = registry.find(NAME)
    assert server.asked == [(f'/zoo/{entry.filename}', None)]
    (log,) = work_dir.glob('*/*.log')
    text = log.read_text()
    assert f'zoo://{NAME} (sha256 {entry.sha256[:8]}): ' in text
    assert 'pos_embed sampled from the 5x5 field on 7x7 (bicubic)' in text

    # The backbone of the first step is the teacher of the pre-training.
    found = dict(watch.backbone)
    positions = found.pop('pos_embed')[0].double()
    patches = bicubic(published['target_encoder.field.samples'], (7, 7)).flatten(0, 1)
    torch.testing.assert_close(positions[-49:], patches, rtol=1e-5, atol=1e-5)
    if 'cls_token' in found:
        cls = published['target_encoder.pos_embed'][0]
        torch.testing.assert_close(positions[:-49], cls.double())
    assert len(found) == 50 + ('cls_token' in found)
    for key, value in found.items():
        assert torch.equal(value, published[f'target_encoder.{key}']), key

    # It was trained for two steps, and saved.
    assert len(watch.losses) == 2
    assert torch.isfinite(torch.stack(watch.losses)).all()
    saved = load_checkpoint_file(work_dir / 'iter_2.pth')
    assert saved['meta']['iter'] == 2
    last = 'layers.3.ffn.layers.1.weight'
    assert not saved['state_dict'][f'backbone.{last}'].equal(found[last])
