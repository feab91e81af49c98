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
    assert [*report['knn_by_layer']] == ['0', '1', '2']
    assert 'layer 2, 3 neighbours' in capsys.readouterr().out
    assert Image.open(labelled / 'knn_by_layer.png').size[0] > 300


def test_layer_0_is_what_goes_into_the_first(tool, trained, labelled):
    """Patch embeddings with their positions, by hand; last4 does not reach it."""
    weights = torch.load(trained[1])['state_dict']
    for part in ('weight', 'bias'):  # which `trained` has made zero in the student
        weights[f'target_encoder.ln1.{part}'].normal_()
    torch.save({'state_dict': weights}, trained[1])
    options = ('--layers', 'last4', '--all-layers', '--knn', 3)
    assert probe(tool, trained, labelled, *options) is None
    files = [load_file(path) for path in (labelled / 'features').iterdir()]
    (train,) = (file['values'] for file in files if len(file['labels']) == 12)
    assert train.shape == (12, 3, 32)

    # Images are read by class, in alphabetical order.
    image = np.array(Image.open(labelled / 'train/bright/0.png'))[8:104, 8:104]
    image = (image - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    encoder = {
        key.removeprefix('target_encoder.'): value.double().numpy()
        for key, value in weights.items()
    }
    kernel = encoder['patch_embed.projection.weight']  # (D, 3, 16, 16)
    pooled = np.zeros(32)
    for patch in range(36):
        top, left = (16 * side for side in divmod(patch, 6))
        pixels = image[top : top + 16, left : left + 16].transpose(2, 0, 1)
        token = (kernel * pixels).sum((1, 2, 3)) + encoder['pos_embed'][0, patch]
        token += encoder['patch_embed.projection.bias']
        token = (token - token.mean()) / np.sqrt(token.var() + 1e-6)
        pooled += (token * encoder['ln1.weight'] + encoder['ln1.bias']) / 36
    np.testing.assert_allclose(train[0, 0], pooled, atol=1e-4)

    reports = [json.loads((labelled / 'linear_probe.json').read_text())]
    assert probe(tool, trained, labelled, '--layers', 'last4', '--knn', 3) is None
    reports.append(json.loads((labelled / 'linear_probe.json').read_text()))
    for measure in ('linear', 'C', 'knn'):
        assert reports[0][measure] == reports[1][measure]


@pytest.fixture
def earlier(tool, trained, labelled, tmp_path):
    """Folder of an earlier run with all layers."""
    options = ('--all-layers', '--knn', 3, '--out', tmp_path / 'earlier')
    assert probe(tool, (trained[0], 'none'), labelled, *options) is None
    return tmp_path / 'earlier'


def test_compare(tool, trained, labelled, earlier, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        'matplotlib.figure.Figure.savefig',
        lambda figure, path, **_: drawn.append((figure.axes[0], path)),
    )
    entries = (f'η=0.5={earlier}', f'random={earlier}/linear_probe.json')
    options = ('--all-layers', '--knn', 3, '--name', 'trained', '--compare', *entries)
    assert probe(tool, trained, labelled, *options) is None
    ((axis, path),) = drawn
    assert path == labelled / 'knn_by_layer.png'
    *curves, chance = axis.lines
    assert [c.get_label() for c in curves] == ['η=0.5', 'random', 'trained']
    assert 'most frequent class' in chance.get_label()
    for curve, folder in zip(curves, (earlier, earlier, labelled), strict=True):
        report = json.loads((folder / 'linear_probe.json').read_text())
        assert [*curve.get_xdata()] == [0, 1, 2]
        assert [*curve.get_ydata()] == [*report['knn_by_layer'].values()]
    assert all(tick == round(tick) for tick in axis.get_xticks())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--compare', 'a=nowhere'), 'there is no nowhere'),
        (('--compare', 'EARLIER'), 'takes NAME=PATH, each name once'),
        (('--compare', 'a=EARLIER', 'a=EARLIER'), 'each name once'),
        (('--compare', 'model=EARLIER'), "not 'model', which is --name"),
        (('--knn', 4, '--compare', 'a=EARLIER'), 'is of 3 neighbours, this run of 4'),
        (('--labels', 8, '--compare', 'a=EARLIER'), 'a was measured on other images'),
        (('--val', 'TRAIN', '--compare', 'a=EARLIER'), 'a was measured on other'),
    ],
)
def test_compare_mistakes(tool, trained, labelled, earlier, options, message):
    places = {'EARLIER': str(earlier), 'TRAIN': str(labelled / 'train')}
    options = [str(option) for option in options]
    for name, place in places.items():
        options = [option.replace(name, place) for option in options]
    result = probe(tool, trained, labelled, '--all-layers', '--knn', 3, *options)
    assert message in result
    assert not (labelled / 'features').exists()


def test_compare_with_what_has_no_curve(tool, trained, labelled, earlier, capsys):
    options = ('--all-layers', '--compare', f'a={earlier}')
    assert probe(tool, (trained[0], 'none'), labelled, '--out', earlier) is None
    message = probe(tool, trained, labelled, *options)
    assert 'has no curve; it is not from linear_probe.py with --all-layers' in message
    for text in ('no JSON', '[]', '{"knn_by_layer": 3, "arguments": {"knn": "20"}}'):
        (earlier / 'linear_probe.json').write_text(text)
        assert 'has no curve' in probe(tool, trained, labelled, *options)
    assert probe(tool, trained, labelled, *options[1:]) == 2
    assert '--compare needs --all-layers' in capsys.readouterr().err


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
        (('--num-images', '-3'), '--num-images must be at least 1, got -3'),
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
