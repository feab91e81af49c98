"""What the fine-tunings of a task leave behind, and what is drawn of it."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmpospretrain.datasets.photoshapes import generate
from mmpospretrain.evaluation import study as module
from mmpospretrain.evaluation.study import Study
from mmpospretrain.evaluation.transfer import RECIPES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def photoshapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'photoshapes'
    generate(folder, images=2, val_images=2, quiet=True)
    return folder


def tensors(value: object) -> list[Tensor]:
    """All tensors in a data sample, whatever elements of elements they are in."""
    if hasattr(value, 'all_values'):
        return [t for item in value.all_values() for t in tensors(item)]
    value = getattr(value, 'tensor', value)  # of boxes
    return [value] if isinstance(value, Tensor) else []


@pytest.mark.parametrize('task', RECIPES['photoshapes'])
def test_predictions_keep_no_graph(task, photoshapes, tmp_path, monkeypatch):
    """Or memory ends when all trainings are done: a graph for every picture."""
    monkeypatch.chdir(ROOT)
    study = Study(
        name=task,
        config=RECIPES['photoshapes'][task],
        data=str(photoshapes),
        options={},
        starts={'scratch': 'none'},
        seeds=1,
        gpus=1,
        folder=tmp_path,
    )
    monkeypatch.setattr(Study, 'all_options', {})  # which ask for a checkpoint
    init_default_scope(study.cfg.default_scope)
    model_cfg = {**study.cfg.model}
    model_cfg.setdefault('data_preprocessor', study.cfg.get('data_preprocessor'))
    folder = tmp_path / 'scratch/seed-0'
    folder.mkdir(parents=True)
    weights = MODELS.build(model_cfg).state_dict()
    torch.save({'state_dict': weights}, folder / 'last.pth')
    (folder / 'last_checkpoint').write_text('where/it/was/last.pth')
    drawn = []
    plot = module.plot_predictions
    monkeypatch.setattr(
        module, 'plot_predictions', lambda *args: drawn.append(args) or plot(*args)
    )
    study.draw_predictions(tmp_path / 'predictions.png', number=1)
    ((_, predictions, _),) = drawn
    found = tensors(predictions['scratch'][0])
    assert found
    assert not any(tensor.requires_grad for tensor in found)
    assert (tmp_path / 'predictions.png').stat().st_size > 1000
