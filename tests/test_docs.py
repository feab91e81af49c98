"""What the documents name is there."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

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


def test_the_readme_s_detector(tmp_path):
    """Its five lines, put under a config of MMDetection's, load a pre-training."""
    (snippet,) = re.findall(r'```python\n(.*?)```', README.read_text(), re.DOTALL)
    arch = dict(embed_dims=768, num_layers=4, num_heads=12, feedforward_channels=64)
    source = PositionViT(arch=arch, img_size=96)
    checkpoint = tmp_path / 'epoch_200.pth'
    weights = {f'backbone.{key}': value for key, value in source.state_dict().items()}
    torch.save(weights, checkpoint)
    mine = tmp_path / 'mine.py'
    mine.write_text(
        "_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\n"
        + snippet.replace("'base'", repr(arch)).replace(
            'epoch_200.pth', str(checkpoint)
        )
    )
    cfg = Config.fromfile(mine)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.init_weights()
    loaded = model.backbone.state_dict()
    assert all(
        torch.equal(value, weights[f'backbone.{key}'])
        for key, value in loaded.items()
        if key != 'pos_embed'
    )
    assert len(model.extract_feat(torch.zeros(1, 3, 64, 96))) == 5
