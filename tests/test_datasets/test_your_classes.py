"""The snippets of "Your classes" in configs/transfer/README.md work as they stand."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from categories import rename
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from PIL import Image

from mmpospretrain.datasets.labelled import (
    check_layout,
    labelled_datasets,
    set_data_root,
)

TRANSFER = Path(__file__).parents[2] / 'configs/transfer'
IN1K = 'classification/vit-base-p16_8xb128-coslr-100e_in1k.py'
# A ViT-B with hardly an MLP.
SLIM = dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=64)


def from_readme(index: int, shapes: Path, tmp_path: Path, replace=()) -> Config:
    """A snippet of "Your classes", on PhotoShapes; small, and otherwise as it is."""
    snippet = re.findall(r'```python\n(.*?)```', your_classes(), re.DOTALL)[index]
    folder, size = [('detection', '1024'), ('segmentation', '512')][index]
    places = {"'./": f"'{TRANSFER / folder}/", 'data/mine': str(shapes)}
    for old, new in {**dict(replace), **places}.items():
        assert old in snippet
        snippet = snippet.replace(old, new)
    path = tmp_path / 'config.py'
    path.write_text(snippet)
    small = Config.fromfile(path).pretty_text.replace(size, '64')
    cfg = Config.fromstring(small.replace('SyncBN', 'BN'), '.py')
    cfg.model.backbone.arch = SLIM
    return cfg


def your_classes() -> str:
    text = (TRANSFER / 'README.md').read_text()
    return text.partition('## Your classes\n')[2].partition('\n## ')[0]


def train_once(cfg: Config) -> tuple[dict, dict[str, torch.Tensor]]:
    """The first batch of a training, and its losses, after a step back."""
    check_layout(cfg)
    init_default_scope(cfg.default_scope)
    set_random_seed(0)
    loader = dict(cfg.train_dataloader, num_workers=0, persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    preprocessor = dict(data_preprocessor=cfg.get('data_preprocessor'))
    model = MODELS.build({**preprocessor, **cfg.model})
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    return batch, losses


# The line for cascades, as it stands in the README.
CASCADE = {
    'mask-rcnn_vitdet-base-p16_8xb2': 'cascade-mask-rcnn_vitdet-base-p16_8xb2',
    'bbox_head=dict(num_classes=num_classes)': ' '.join(
        re.search(r'`(bbox_head=\[[^`]*\])`', your_classes())[1].split()
    ),
}


@pytest.mark.parametrize('replace', [{}, CASCADE], ids=['mask', 'cascade'])
def test_the_readme_s_detector(replace, mine, tmp_path):
    rename(mine, ['bolt', 'nut'])
    for split in ('train', 'val'):
        path = mine / f'annotations/instances_{split}.json'
        path.rename(mine / f'annotations/{split}.json')
    cfg = from_readme(0, mine, tmp_path, replace)
    cfg.model.train_cfg.rpn.allowed_border = -1  # no anchor fits so small an image
    batch, losses = train_once(cfg)
    assert any('loss_mask' in key for key in losses)
    labels = [sample.gt_instances.labels for sample in batch['data_samples']]
    assert {*torch.cat(labels).tolist()} <= {0, 1}
    heads = cfg.model.roi_head.bbox_head if replace else [cfg.model.roi_head.bbox_head]
    assert [head.num_classes for head in heads] == [2] * (3 if replace else 1)
    for dataset in labelled_datasets(cfg):
        assert DATASETS.build(dataset).metainfo['classes'] == ('bolt', 'nut')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.ann_file == str(mine / 'annotations/val.json')


def test_the_readme_s_segmentor(mine, tmp_path):
    for path in (mine / 'masks').rglob('*.png'):  # no class above 2
        Image.fromarray(np.array(Image.open(path)) % 3).save(path)
    cfg = from_readme(1, mine, tmp_path)
    _, losses = train_once(cfg)
    assert {'decode.loss_ce', 'aux.loss_ce'} <= losses.keys()
    for dataset in map(DATASETS.build, labelled_datasets(cfg)):
        maps = [sample['data_samples'].gt_sem_seg.data for sample in dataset]
        labels = {*torch.cat([m.flatten() for m in maps]).tolist()}
        assert 0 in labels  # it is a class
        assert labels <= {0, 1, 2, 255}
        assert dataset.metainfo['classes'] == ('background', 'bolt', 'nut')


def test_the_readme_s_classifier(shapes, tmp_path):
    for split in ('train', 'val'):
        for k, path in enumerate(sorted((shapes / split).glob('*.jpg'))):
            folder = tmp_path / split / ('bolt', 'nut')[k % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
    cfg = Config.fromfile(TRANSFER / IN1K)
    set_data_root(cfg, str(tmp_path))
    for dataset in labelled_datasets(cfg):
        dataset.metainfo = dict(classes=['bolt', 'nut'])
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 2
    cfg.model.backbone.arch = SLIM
    cfg.train_dataloader.batch_size = 4
    assert train_once(cfg)[1]['loss'] > 0
