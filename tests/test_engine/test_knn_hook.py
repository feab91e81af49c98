"""KNNHook: whose features, and what shows before the first step."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.registry import DATASETS, HOOKS, MODELS
from PIL import Image
from trainings import train

PACK = dict(type='PackInputs')


@pytest.fixture
def knn_runner(tiny_ijepa):
    """A stub for KNNHook, with a model whose teacher is not its student."""
    torch.manual_seed(0)
    cfg = tiny_ijepa()
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    for parameter in model.target_encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return SimpleNamespace(
        model=model,
        epoch=0,
        max_epochs=1,
        logger=MMLogger.get_current_instance(),
        visualizer=SimpleNamespace(add_scalar=lambda *_: None),
    )


def test_knn_is_of_the_last_layer_of_the_teacher(knn_runner, knn, monkeypatch):
    """Pooled patches of images that the preprocessor has normalised, by hand."""
    measured = []

    def spy(train, val, k):
        measured.extend([train, val, k])
        return 50.0

    monkeypatch.setattr('mmpospretrain.engine.hooks.knn.knn_accuracy', spy)
    hook = HOOKS.build(knn)
    state = torch.get_rng_state()
    hook.before_train(knn_runner)
    assert torch.equal(torch.get_rng_state(), state)  # training goes on as without it
    hook.after_train_epoch(knn_runner)
    train, val, k = measured
    assert (k, len(train.labels), val.labels.tolist()) == (3, 24, [0, 1] * 3)
    dataset = DATASETS.build(knn['val'])
    images = torch.stack([dataset[i]['inputs'] for i in range(6)]).float()
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    )
    teacher = knn_runner.model.target_encoder
    with torch.no_grad():
        images = (images.flip(1) - mean) / std  # the preprocessor wants RGB
        (pooled,) = teacher.pooled(images, [teacher.num_layers - 1])
    torch.testing.assert_close(
        torch.from_numpy(val.values[:, 0]), pooled, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ('split', 'change', 'message'),
    [
        ('train', dict(with_label=False), r'000\.jpg has no label: .* with_label=True'),
        ('val', dict(with_label=False), r'000\.jpg has no label: .* with_label=True'),
        (
            'train',
            dict(pipeline=[]),
            'train of KNNHook needs a pipeline that ends with',
        ),
        ('val', dict(pipeline=[]), 'val of KNNHook needs a pipeline that ends with'),
        ('val', dict(pipeline=[dict(type='CenterCrop', crop_size=90), PACK]), '90'),
        ('val', 'third class', r'val of KNNHook has labels .* no training .*: \[2\]'),
        ('val', 'folders', 'val of KNNHook has other classes .* only one has b, c'),
    ],
)
def test_knn_mistakes_show_before_the_first_step(
    knn_runner, knn, tmp_path, split, change, message
):
    if change == 'third class':
        with open(tmp_path / 'val.txt', 'a') as file:
            file.write('\nval/000.jpg 2')
    elif change == 'folders':
        # Each folder numbers its classes from 0.
        for split_, names in (('train', 'ab'), ('val', 'ac')):
            for name in names:
                folder = tmp_path / split_ / name
                folder.mkdir(parents=True)
                Image.new('RGB', (112, 112)).save(folder / '0.png')
            knn[split_].update(data_root=str(tmp_path / split_), ann_file='')
    else:
        knn[split].update(change)
    with pytest.raises(ValueError, match=message):
        HOOKS.build(knn).before_train(knn_runner)


def test_knn_errors(tiny_ijepa, image_folder):
    cfg = tiny_ijepa(**{'train_cfg.max_epochs': 1, 'param_scheduler.1.end': 1})
    dataset = dict(
        type='mmpospretrain.ImageFolder',
        with_label=True,
        data_root=str(image_folder),
        ann_file='no.txt',
    )
    hook = dict(type='mmpospretrain.KNNHook', train=dataset, val=dataset)
    cfg.custom_hooks.append({**hook, 'backbone': 'encoder'})
    with pytest.raises(ValueError, match="KNNHook: IJEPA has no 'encoder'"):
        train(cfg)
    cfg.custom_hooks[-1].pop('backbone')
    with pytest.raises(FileNotFoundError, match=r'no\.txt'):
        train(cfg)
