"""test_ensemble.py as a user meets it, and the average of scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from PIL import Image

from mmpospretrain.evaluation.ensemble import average_scores

CLASSIFIER = 'configs/transfer/classification/vit-tiny-p16_photoshapes.py'
CLASSES = ('circle', 'square', 'triangle', 'star')
LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')


@pytest.fixture
def images(tmp_path):
    """12 images of noise (112, 112, 3), and in ``labels.txt`` a class for each."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 112, 112, 3), np.uint8)
    lines = []
    for index, image in enumerate(noise):
        Image.fromarray(image).save(tmp_path / f'{index:02}.png')
        lines.append(f'{index:02}.png {index % 4}')
    (tmp_path / 'labels.txt').write_text('\n'.join(lines))
    return noise


@pytest.fixture
def member(tmp_path, images):
    """Write the config and the checkpoint of a classifier; takes cfg-options."""

    def build(name: str, options: dict | None = None) -> list[Path]:
        cfg = Config.fromfile(Path(__file__).parents[2] / CLASSIFIER)
        small = dict(embed_dims=32, num_layers=1, num_heads=4, feedforward_channels=64)
        cfg.merge_from_dict(
            {
                'model.backbone.arch': dict(small, _delete_=True),
                'model.backbone.init_cfg': None,
                'model.head.in_channels': 32,
                'test_dataloader.num_workers': 0,
                'test_dataloader.batch_size': 5,
                'test_dataloader.dataset.data_root': str(tmp_path),
                'test_dataloader.dataset.ann_file': 'labels.txt',
                'test_evaluator.topk': (1, 2),
                **(options or {}),
            }
        )
        torch.manual_seed(ord(name))
        model = MODELS.build(cfg.model)
        torch.nn.init.normal_(model.head.fc.weight)  # so that classes differ
        paths = [tmp_path / f'{name}.py', tmp_path / f'{name}.pth']
        cfg.dump(paths[0])
        torch.save({'state_dict': model.state_dict()}, paths[1])
        return paths

    return build


@pytest.fixture
def other(member):
    """A classifier of smaller images, with other colours, from another pipeline."""
    return member(
        'B',
        {
            'model.backbone.img_size': 96,
            'data_preprocessor.mean': [100.0, 110.0, 120.0],
            'data_preprocessor.to_rgb': False,
            'test_dataloader.dataset.pipeline': [
                LOAD,
                dict(type='CenterCrop', crop_size=96),
                PACK,
            ],
            'test_dataloader.batch_size': 4,
        },
    )


@pytest.fixture
def ensemble(tool, tmp_path):
    """Run the tool; returns its error, or what it wrote."""

    def run(*args):
        error = tool('test_ensemble.py', *args, '--out', tmp_path / 'new/out')
        return error or json.loads((tmp_path / 'new/out/ensemble.json').read_text())

    return run


def logits_by_hand(paths, pixels, mean):
    """Of images (n, H, W, 3), in float64 from the model on."""
    model = get_model(str(paths[0]), pretrained=str(paths[1])).eval()
    inputs = (pixels - np.array(mean)) / [58.395, 57.12, 57.375]
    inputs = torch.tensor(inputs.transpose(0, 3, 1, 2), dtype=torch.float32)
    with torch.no_grad():
        return model(inputs).double().numpy()


def accuracies_by_hand(scores):
    """Top-1 and top-2 in percent, image by image."""
    hits = np.zeros(2)
    for index, row in enumerate(scores):
        best = sorted(range(4), key=lambda c: -row[c])[:2]
        hits += [best[0] == index % 4, index % 4 in best]
    top1, top2 = 100 * hits / len(scores)
    return pytest.approx({'accuracy/top1': top1, 'accuracy/top2': top2})


def softmax(x):
    exp = np.exp(x - x.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def test_as_by_hand(ensemble, member, other, images, capsys):
    one = member('A')
    a = logits_by_hand(one, images, [123.675, 116.28, 103.53])
    cropped = images[:, 8:104, 8:104, ::-1]  # BGR, as it is read
    b = logits_by_hand(other, cropped, [100.0, 110.0, 120.0])

    report = ensemble(*one, *other)
    assert report['images'] == 12
    assert [m['checkpoint'] for m in report['models']] == [str(one[1]), str(other[1])]
    for model, logits in zip(report['models'], (a, b), strict=True):
        assert model['metrics'] == accuracies_by_hand(logits)
    assert report['ensemble'] == accuracies_by_hand(a + b)
    for name, gain in report['gain'].items():
        best = max(model['metrics'][name] for model in report['models'])
        assert gain == report['ensemble'][name] - best
    shown = capsys.readouterr().out
    assert f'{report["gain"]["accuracy/top2"]:+.2f}' in shown
    assert f'B {other[0]} {other[1]}' in shown

    weighted = ensemble(*one, *other, '--weights', 1, 3)
    assert weighted['ensemble'] == accuracies_by_hand(a + 3 * b)
    assert [model['weight'] for model in weighted['models']] == [1, 3]
    assert weighted['arguments']['weights'] == [1, 3]
    late = ensemble(*one, *other, '--average', 'probabilities')
    assert late['ensemble'] == accuracies_by_hand(softmax(a) + softmax(b))


def test_a_model_with_itself_is_itself(ensemble, member, other):
    one = member('A')
    report = ensemble(*one, *one, *one)
    assert report['ensemble'] == report['models'][0]['metrics']
    assert {*report['gain'].values()} == {0}
    # Nor does a model without weight change anything.
    weights = ensemble(*one, *other, '--weights', 2, 0)
    assert weights['ensemble'] == report['ensemble']


def test_average_of_known_scores():
    # Each model is sure of a class of its own, and both find the third likely.
    a, b = np.array([[8.0, 0.0, 7.0]]), np.array([[0.0, 8.0, 7.5]])
    tensors = [torch.tensor(x, dtype=torch.float32) for x in (a, b)]
    early = average_scores(tensors, [3, 1])
    np.testing.assert_allclose(early, softmax((3 * a + b) / 4), rtol=1e-5)
    late = average_scores(tensors, [3, 1], 'probabilities')
    np.testing.assert_allclose(late, (3 * softmax(a) + softmax(b)) / 4, rtol=1e-5)
    assert (early.argmax(), late.argmax()) == (2, 0)


def test_metrics_beyond_a_number_are_in_the_file(ensemble, member):
    matrix = dict(type='ConfusionMatrix', num_classes=4)
    both = [dict(type='Accuracy'), matrix]
    one = member('A', {'test_evaluator': both})
    report = ensemble(*one, *member('B'))
    assert [*report['gain']] == ['accuracy/top1']
    assert np.sum(report['ensemble']['confusion_matrix/result']) == 12


def lines(path, change):
    """A list with other lines, beside ``path``; returns its name."""
    changed = change(path.read_text().splitlines())
    path.with_name('others.txt').write_text('\n'.join(changed))
    return 'others.txt'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], ['01.png, label 1']),
        (lambda lines: [*lines[:7], '07.png 0', *lines[8:]], ['07.png, label 0']),
        (lambda lines: lines[:-1], ['11.png, label 3', 'B.py: none']),
    ],
    ids=['order', 'label', 'number'],
)
def test_other_images(ensemble, member, tmp_path, change, words):
    ann_file = lines(tmp_path / 'labels.txt', change)
    options = {'test_dataloader.dataset.ann_file': ann_file}
    error = ensemble(*member('A'), *member('B', options))
    assert error.startswith('error: an ensemble needs the same images in the same')
    for word in ('A.py: ', 'B.py: ', *words):
        assert word in error
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            {
                'model.head.num_classes': 5,
                'test_dataloader.dataset.metainfo.classes': [*CLASSES, 'moon'],
            },
            'A.py has 4, and|B.py has 5',
        ),
        (
            {'model.head.num_classes': 5},
            'model.head has 5 outputs, but the data of test_dataloader have 4 classes',
        ),
        (
            {'test_dataloader.dataset.metainfo.classes': [*CLASSES[:3], 'moon']},
            'the same classes|number 3|A.py: star|B.py: moon',
        ),
        (
            {'model.head.type': 'MultiLabelLinearClsHead', 'model.head.loss': {}},
            'ImageClassifier with head MultiLabelLinearClsHead has no logits',
        ),
        ({'test_dataloader': None}, 'B.py has no test_dataloader'),
        (
            {'test_dataloader.dataset.ann_file': 'none.txt'},
            'there is no|none.txt, which CustomDataset needs',
        ),
    ],
)
def test_models_that_do_not_fit(ensemble, member, options, words):
    if options.get('model.head.loss') == {}:
        loss = dict(type='CrossEntropyLoss', use_sigmoid=True, _delete_=True)
        options = {**options, 'model.head.loss': loss}
    error = ensemble(*member('A'), *member('B', options))
    assert error.startswith('error: ')
    for word in words.split('|'):
        assert word in error


def test_wrong_checkpoints(ensemble, member, tmp_path):
    one, other = member('A'), member('B', {'model.head.num_classes': 5})
    error = ensemble(*one, one[0], other[1])
    assert 'is a checkpoint of another model' in error
    assert '(5, 32) in the checkpoint, (4, 32) in the model' in error
    error = ensemble(*one, one[0], tmp_path / 'none.pth')
    assert error.startswith("error: there is no checkpoint '")
    error = ensemble(*one, tmp_path / 'none.py', one[1])
    assert error.startswith("error: there is no config '")


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ('a.py a.pth b.py', 'got an odd number: a.py a.pth b.py'),
        ('a.py a.pth', 'give two models or more; tools/test.py evaluates one'),
        ('a.py a.pth b.py b.pth --weights 1', '2 models need 2 --weights, not [1.0]'),
        ('a.py a.pth b.py b.pth --weights 1 -1', 'must be 0 or more, and not all 0'),
        ('a.py a.pth b.py b.pth --weights 0 0', 'must be 0 or more, and not all 0'),
        ('a.py a.pth b.py b.pth --weights 1 nan', 'must be 0 or more, and not all 0'),
    ],
)
def test_wrong_arguments(tool, capsys, args, message):
    assert tool('test_ensemble.py', *args.split()) == 2
    assert message in capsys.readouterr().err
