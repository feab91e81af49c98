"""What the documents name is there."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmpospretrain.engine.cli import build_runner
from mmpospretrain.models import PositionViT

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ('*.md', 'docs/*.md', 'configs/*/README.md')
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize('document', DOCUMENTS, ids=str)
def test_links_and_commands(document):
    text = (ROOT / document).read_text(encoding='utf-8')
    links = {
        link.partition('#')[0]
        for link in re.findall(r'\]\((?!https?://)([^)#]+)', text)
    }
    files = set(re.findall(r'\b(?:tools|configs)/[\w./-]+\.(?:py|sh)\b', text))
    assert links or files
    missing = [
        link for link in links if not (ROOT / document).parent.joinpath(link).exists()
    ]
    missing += [file for file in files if not (ROOT / file).exists()]
    assert not missing


def test_every_method_has_a_readme():
    folders = {path.parent for path in (ROOT / 'configs').glob('[!_]*/*.py')}
    assert folders
    assert all((folder / 'README.md').exists() for folder in folders)


PHOTOSHAPES = (
    ROOT / 'configs/transfer/detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py'
)
ARCH = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)


def detector(base: str, checkpoint: Path, folder: Path, **options) -> Config:
    """The README's five lines over a config, with a small ViT."""
    (snippet,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
    (optimizer,) = re.findall(
        r'```py\n(optim_wrapper.*?)```', README.read_text(), re.DOTALL
    )
    mine = folder / 'mine.py'
    lines = snippet.replace("'base'", repr(ARCH)).replace('768', '32')
    lines = lines.replace('epoch_200.pth', str(checkpoint))
    mine.write_text(f'_base_ = {str(base)!r}\n{lines}{optimizer}\n')
    cfg = Config.fromfile(mine)
    cfg.merge_from_dict(options)
    init_default_scope(cfg.default_scope)
    return cfg


def ours() -> dict[str, torch.Tensor]:
    model = PositionViT(arch=ARCH, img_size=96)
    return {f'backbone.{key}': value for key, value in model.state_dict().items()}


def dinov2() -> dict[str, torch.Tensor]:
    """In DINOv2's format, four layers of `ARCH`."""
    official = runpy.run_path(str(ROOT / 'tests/test_zoo/official.py'))
    weights = official['dinov2']()
    for key in [key for key in weights if key.startswith('blocks.0.')]:
        for layer in range(4):
            weights[key.replace('blocks.0.', f'blocks.{layer}.')] = weights[key]
    return weights


@pytest.mark.parametrize(
    ('base', 'options'),
    [
        ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', {}),
        ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', {}),
        ('mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py', {}),
        (PHOTOSHAPES, {'model.neck.out_channels': 64}),
    ],
    ids=['mask', 'faster', 'cascade', 'photoshapes'],
)
@pytest.mark.parametrize(
    ('weights', 'backbone'),
    [(ours, {}), (dinov2, {'model.backbone.layer_scale_init_value': 1e-5})],
    ids=['ours', 'dinov2'],
)
def test_the_readme_s_detector(base, options, weights, backbone, tmp_path):
    """Its lines, put over a whole config, load a pre-training and give proposals."""
    torch.save(weights(), tmp_path / 'weights.pth')
    cfg = detector(base, tmp_path / 'weights.pth', tmp_path, **options, **backbone)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.1)
    model = MODELS.build(cfg.model)
    before = model.backbone.layers[0].ln1.bias.clone()
    model.init_weights()
    loaded = model.backbone.state_dict()
    if weights is ours:
        saved = torch.load(tmp_path / 'weights.pth')
        same = (
            torch.equal(value, saved[f'backbone.{key}'])
            for key, value in loaded.items()
            if key != 'pos_embed'
        )
        assert all(same)
    else:
        assert not torch.equal(model.backbone.layers[0].ln1.bias, before)
    features = model.extract_feat(torch.zeros(1, 3, 64, 96))
    assert len(features) == 5
    assert len(model.rpn_head(features)[0]) == 5


def test_over_parts_that_name_no_model(tmp_path):
    base = ROOT / 'configs/_base_/datasets/photoshapes_coco.py'
    (tmp_path / 'part.py').write_text(f'_base_ = {str(base)!r}\nmodel = dict(neck=1)\n')
    with pytest.raises(ValueError, match=r'part\.py has no model\.type.*mmdet::'):
        build_runner(Config.fromfile(tmp_path / 'part.py'))
