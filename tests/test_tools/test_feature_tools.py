"""linear_probe.py and visualize_stop.py as a user meets them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.numpy import load_file

from mmpospretrain.evaluation import features


@pytest.fixture
def labelled(tmp_path):
    """Two classes that differ in brightness: 12 images to train on, 8 to validate."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 4)):
        for name, level in (('dark', 60), ('bright', 190)):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(-30, 30, (112, 112, 3)) + level
                Image.fromarray(noise.astype(np.uint8)).save(folder / f'{index}.png')
    return tmp_path


@pytest.fixture
def trained(tiny_ijepa, tmp_path):
    """Config file and checkpoint of a StoP model; its teacher is not its student."""
    cfg = tiny_ijepa(
        **{
            'model.type': 'mmpospretrain.StoP',
            'model.neck.type': 'mmpospretrain.StochasticPredictor',
        }
    )
    cfg.dump(tmp_path / 'config.py')
    model = MODELS.build(cfg.model)
    torch.nn.init.zeros_(model.backbone.ln1.weight)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    return tmp_path / 'config.py', tmp_path / 'model.pth'


def probe(tool, trained, labelled, *options):
    sources = ('--train', labelled / 'train', '--val', labelled / 'val')
    loading = ('--num-workers', 0, '--batch-size', 4)
    return tool('linear_probe.py', *trained, *sources, *loading, *options)


def test_linear_probe(tool, trained, labelled, capsys):
    assert probe(tool, trained, labelled, '--all-layers', '--knn', 3) is None
    report = json.loads((labelled / 'linear_probe.json').read_text())
    # Brightness is in any features but those of the student, which are zero.
    assert report['linear'] == report['knn'] == 100
    assert report['chance'] == 50
    assert report['train_images'] == 12
    assert [*report['knn_by_layer']] == ['1', '2']
    assert 'layer 2, 3 neighbours' in capsys.readouterr().out
    assert Image.open(labelled / 'knn_by_layer.png').size[0] > 300


def test_features_are_extracted_once(tool, trained, labelled, monkeypatch):
    calls = []
    extract = features.extract_features

    def spy(*args, **kwargs):
        calls.append(len(args[2]))
        return extract(*args, **kwargs)

    monkeypatch.setattr(features, 'extract_features', spy)
    for _ in range(2):
        assert probe(tool, trained, labelled) is None
    assert calls == [12, 8]
    # Fewer labels are other images; the validation images are the same.
    assert probe(tool, trained, labelled, '--labels', 8) is None
    assert calls == [12, 8, 8]
    # Both layers of two.
    assert probe(tool, trained, labelled, '--layers', 'last4') is None
    assert calls == [12, 8, 8, 12, 8]


def test_random_weights(tool, trained, labelled, tmp_path):
    """A seed is a model: the same one is found again, another one is not."""
    config, _ = trained
    out = tmp_path / 'random'
    counts = []
    for seed in (0, 0, 1):
        options = ('--out', out, '--seed', seed)
        assert probe(tool, (config, 'none'), labelled, *options) is None
        counts.append(len([*(out / 'features').iterdir()]))
    assert counts == [2, 2, 4]
    first, second = (
        load_file(path)['values'] for path in sorted((out / 'features').iterdir())[:2]
    )
    assert not np.array_equal(first[:8], second[:8])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--labels', '1'), 'at least one for each of the 2 classes'),
        (('--knn', '13'), '13 neighbours among 12 training images'),
        (('--train', 'nowhere'), "no folder or file 'nowhere'"),
        (('--cfg-options', 'model.backbone.arc=1'), 'model.backbone.arc'),
    ],
)
def test_linear_probe_mistakes(tool, trained, labelled, options, message):
    assert message in str(probe(tool, trained, labelled, *options))


def test_wrong_checkpoint(tool, trained, labelled):
    config, checkpoint = trained
    assert "no checkpoint 'x.pth'" in probe(tool, (config, 'x.pth'), labelled)
    torch.save({'state_dict': {'a': torch.zeros(1)}}, checkpoint)
    assert 'holds no weights of such a backbone' in probe(tool, trained, labelled)


def test_a_broken_image_is_done_without(tool, trained, labelled):
    (labelled / 'train/dark/2.png').write_bytes(b'no image')
    assert probe(tool, trained, labelled) is None
    assert json.loads((labelled / 'linear_probe.json').read_text())['linear'] == 100


@pytest.mark.parametrize('kind', ['StoP', 'IJEPA'])
def test_visualize_stop(tool, trained, labelled, tmp_path, kind):
    options = () if kind == 'StoP' else ('--cfg-options', 'model.neck.noise_on=none')
    images = labelled / 'val'
    out = tmp_path / kind
    common = ('--num-images', 2, '--out', out)
    assert tool('visualize_stop.py', *trained, images, *common, *options) is None
    widths = {}
    for name in ('positions', 'predictions'):
        picture = np.array(Image.open(out / f'{name}.png').convert('L'))
        assert picture.std() > 10
        widths[name] = picture.shape[1]
    # Without noise there is the deterministic column alone.
    assert (widths['positions'] > 900) == (kind == 'StoP')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--places', '36'), 'the grid of 6x6 has patches 0 to 35, got 36'),
        (('--cfg-options', 'model.neck.sigma=-1'), 'sigma must be at least 0'),
    ],
)
def test_visualize_mistakes(tool, trained, labelled, options, message):
    images = labelled / 'val'
    assert message in tool('visualize_stop.py', *trained, images, *options)


def test_visualize_another_model(tool, tiny_config, labelled, tmp_path):
    cfg = tiny_config()
    cfg.dump(tmp_path / 'droppos.py')
    torch.save({'state_dict': get_model(cfg).state_dict()}, tmp_path / 'droppos.pth')
    files = Path('droppos.py'), Path('droppos.pth')
    result = tool('visualize_stop.py', *(tmp_path / f for f in files), labelled / 'val')
    assert 'is a config of DropPos' in result
