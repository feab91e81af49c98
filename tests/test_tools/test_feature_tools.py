"""linear_probe.py and visualize_stop.py as a user meets them."""

import json
import logging.handlers
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.numpy import load_file

from mmpospretrain.evaluation import features
from mmpospretrain.evaluation.frozen import Probe

RANDOM = 'linear_probe_none_config.json'  # of the fixtures' config.py


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
    report = json.loads((labelled / 'linear_probe_model.json').read_text())
    # Brightness is in any features but those of the student, which are zero.
    assert report['linear'] == report['knn'] == 100
    assert report['chance'] == 50
    assert report['train_images'] == 12
    assert [*report['knn_by_layer']] == ['0', '1', '2']
    assert 'layer 2, 3 neighbours' in capsys.readouterr().out
    assert Image.open(labelled / 'knn_by_layer_model.png').size[0] > 300


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

    result = labelled / 'linear_probe_model_last4.json'
    reports = [json.loads(result.read_text())]
    assert probe(tool, trained, labelled, '--layers', 'last4', '--knn', 3) is None
    reports.append(json.loads(result.read_text()))
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
    entries = (f'η=0.5={earlier}', f'random={earlier}/{RANDOM}')
    options = ('--all-layers', '--knn', 3, '--name', 'trained', '--compare', *entries)
    assert probe(tool, trained, labelled, *options) is None
    ((axis, path),) = drawn
    assert path == labelled / 'knn_by_layer_model.png'
    *curves, chance = axis.lines
    assert [c.get_label() for c in curves] == ['η=0.5', 'random', 'trained']
    assert 'most frequent class' in chance.get_label()
    files = (earlier / RANDOM, earlier / RANDOM, labelled / 'linear_probe_model.json')
    for curve, file in zip(curves, files, strict=True):
        report = json.loads(file.read_text())
        assert [*curve.get_xdata()] == [0, 1, 2]
        assert [*curve.get_ydata()] == [*report['knn_by_layer'].values()]
    assert all(tick == round(tick) for tick in axis.get_xticks())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--compare', 'a=nowhere'), 'there is no nowhere'),
        (('--compare', 'a=TRAIN'), 'there is no linear_probe_….json in'),
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
        (earlier / RANDOM).write_text(text)
        assert 'has no curve' in probe(tool, trained, labelled, *options)
    assert probe(tool, trained, labelled, *options[1:]) == 2
    assert '--compare needs --all-layers' in capsys.readouterr().err


def test_runs_do_not_overwrite_each_other(tool, trained, labelled, earlier):
    """Two checkpoints, layers, labels and seeds in a folder; all are told apart."""
    config, checkpoint = trained
    other = checkpoint.with_name('other.pth')
    shutil.copy(checkpoint, other)
    out = ('--out', earlier)
    for weights, *options in (
        (checkpoint,),
        (other, '--all-layers', '--knn', 3),
        (checkpoint, '--layers', 'last4', '--labels', '50%', '--seed', 2),
    ):
        assert probe(tool, (config, weights), labelled, *out, *options) is None
    assert sorted(path.name for path in earlier.iterdir() if path.is_file()) == [
        'knn_by_layer_none_config.png',
        'knn_by_layer_other.png',
        'linear_probe_model.json',
        'linear_probe_model_last4_50pct_seed2.json',
        RANDOM,
        'linear_probe_other.json',
    ]
    options = ('--all-layers', '--knn', 3, '--compare')
    message = probe(tool, trained, labelled, *options, f'a={earlier}')
    assert 'has several results, name one of them: linear_probe_model.json' in message
    entry = f'a={earlier / "linear_probe_other.json"}'
    assert probe(tool, trained, labelled, *options, entry) is None


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
    """Those that training starts from; a seed is a model, which is found again."""
    config, _ = trained
    out = tmp_path / 'random'
    logged = logging.handlers.BufferingHandler(capacity=1000)
    logger = MMLogger.get_current_instance()
    logger.addHandler(logged)
    counts = []
    for seed in (0, 0, 1):
        options = ('--out', out, '--seed', seed)
        assert probe(tool, (config, 'none'), labelled, *options) is None
        counts.append(len([*(out / 'features').iterdir()]))
    logger.removeHandler(logged)
    assert counts == [2, 2, 4]
    assert not any('patch_embed' in record.getMessage() for record in logged.buffer)
    assert logger.isEnabledFor(logging.INFO)

    found = [load_file(path)['values'] for path in (out / 'features').iterdir()]
    cfg = Config.fromfile(config)
    dataset = features.labelled_images(labelled / 'val', cfg.val_pipeline)
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        assert 0.015 < model.target_encoder.layers[0].attn.qkv.weight.std() < 0.025
        preprocessor = MODELS.build(cfg.data_preprocessor)
        expected = features.extract_features(
            model.target_encoder, preprocessor, dataset, [1], num_workers=0
        )
        assert any(
            x.shape == expected.values.shape
            and np.allclose(x, expected.values, atol=1e-5)
            for x in found
        )


def test_random_weights_of_what_would_be_pre_trained(tool, trained, labelled):
    """A classifier of MMPretrain whose config names a checkpoint that is not there."""
    cfg = Config.fromfile(trained[0])
    cfg.model = dict(
        type='ImageClassifier',
        backbone=dict(
            type='VisionTransformer',
            arch=dict(
                embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
            ),
            img_size=96,
            init_cfg=dict(type='Pretrained', checkpoint='gone.pth'),
        ),
        head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16),
    )
    cfg.dump(labelled / 'classifier.py')
    options = ('--out', labelled / 'random')
    classifier = labelled / 'classifier.py', 'none'
    assert probe(tool, classifier, labelled, *options) is None
    result = labelled / 'random/linear_probe_none_classifier.json'
    assert json.loads(result.read_text())['linear'] == 100


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--labels', '1'), 'at least one for each of the 2 classes'),
        (('--labels', '2'), 'class 0 has a single training image'),
        (('--labels', 'inf%'), "a percentage such as '1%', got 'inf%'"),
        (('--knn', '13'), '13 neighbours among 12 training images'),
        (('--knn', '9', '--labels', '8'), '9 neighbours among 8 training images'),
        (('--knn', '0'), '--knn must be at least 1, got 0'),
        (('--knn', '0', '--all-layers'), '--knn must be at least 1, got 0'),
        (('--knn', '-3'), '--knn must be at least 1, got -3'),
        (('--batch-size', '0'), '--batch-size must be at least 1, got 0'),
        (('--num-workers', '-1'), '--num-workers must be at least 0, got -1'),
        (('--seed', '-1'), '--seed must be at least 0, got -1'),
        (('--max-broken-share', '2'), 'max_broken_share must be in [0, 1], got 2.0'),
        (('--train', 'nowhere'), "no folder or file 'nowhere'"),
        (('--cfg-options', 'model.backbone.arc=1'), 'model.backbone.arc'),
    ],
)
def test_linear_probe_mistakes(tool, trained, labelled, options, message):
    """Each is known before anything is computed."""
    assert message in str(probe(tool, trained, labelled, *options))
    assert not (labelled / 'features').exists()


def test_wrong_checkpoint(tool, trained, labelled):
    config, checkpoint = trained
    assert "no checkpoint 'x.pth'" in probe(tool, (config, 'x.pth'), labelled)
    torch.save({'state_dict': {'a': torch.zeros(1)}}, checkpoint)
    assert 'holds no weights of such a backbone' in probe(tool, trained, labelled)


def test_broken_images_are_done_without(tool, trained, labelled, capsys):
    """On either side; and too many are an error that says what to do."""
    for name in ('train/dark/2.png', 'val/bright/0.png'):
        (labelled / name).write_bytes(b'no image')
    result = labelled / 'linear_probe_model.json'
    for _ in range(2):  # the second time from the cache
        assert probe(tool, trained, labelled, '--knn', 3) is None
        report = json.loads(result.read_text())
        assert report['linear'] == report['knn'] == 100
        images = [report[f'{name}_images'] for name in ('train', 'val')]
        assert [*images, report['left_out']] == [11, 7, 2]
        assert '2 images that cannot be read are left out' in words(capsys)
        assert round(report['chance']) == 57
    (labelled / 'train/bright/0.png').write_bytes(b'')
    error = probe(tool, trained, labelled)
    assert '2 of 12 images cannot be read' in error
    assert error.endswith('or raise --max-broken-share')
    assert probe(tool, trained, labelled, '--max-broken-share', 0.2) is None
    assert json.loads(result.read_text())['train_images'] == 10


def words(capsys):
    """What was printed, wherever its lines were broken."""
    return ' '.join(capsys.readouterr().out.split())


def test_an_image_that_is_missing_in_a_list(tool, trained, labelled):
    names = [
        f'train/{c}/{i}.png {c == "dark":d}'
        for c in ('bright', 'dark')
        for i in range(6)
    ]
    lists = [labelled / 'train.txt', labelled / 'val.txt']
    lists[0].write_text('\n'.join([*names, 'train/dark/6.png 1']))
    lists[1].write_text('val/dark/0.png 1\nval/bright/0.png 0\n')
    sources = ('--train', lists[0], '--val', lists[1])
    assert probe(tool, trained, labelled, *sources) is None
    report = json.loads((labelled / 'linear_probe_model.json').read_text())
    assert (report['train_images'], report['left_out']) == (12, 1)
    lists[1].write_text('val/dark/0.png 1\nval/bright/0.png -1\n')
    error = probe(tool, trained, labelled, *sources)
    assert 'val.txt must be at least 0, got -1' in error


def test_images_on_both_sides(tool, trained, labelled, capsys):
    assert probe(tool, trained, labelled) is None
    assert 'training images too' not in capsys.readouterr().err
    assert probe(tool, trained, labelled, '--val', labelled / 'train') is None
    warning = capsys.readouterr().err
    assert 'warning: 12 validation images are training images too, such as' in warning


@pytest.mark.parametrize(('strength', 'said'), [(10.0, True), (0.1, False)])
def test_regularisation_at_the_edge_is_said(
    tool, trained, labelled, capsys, monkeypatch, strength, said
):
    monkeypatch.setattr(
        'mmpospretrain.evaluation.frozen.linear_probe',
        lambda *_, **__: Probe(50.0, strength),
    )
    assert probe(tool, trained, labelled) is None
    output = words(capsys)
    assert f'C = {strength:g}' in output
    assert ('edge' in output) == said


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
        (('--num-images', '0'), '--num-images must be at least 1, got 0'),
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
