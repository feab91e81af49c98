"""analyze_attention.py as a user meets it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

from mmpospretrain.evaluation.attention import head_statistics

ROOT = Path(__file__).parents[2]
TINY_MP3 = ROOT / 'configs/mp3/mp3_vit-tiny-p16_photoshapes.py'
CLASSIFIER = ROOT / 'configs/transfer/classification/vit-tiny-p16_photoshapes.py'


def save(cfg, path, seed=0):
    """Config and checkpoint of random weights, as ``NAME.py`` and ``NAME.pth``."""
    torch.manual_seed(seed)
    model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    cfg.dump(path.with_suffix('.py'))
    torch.save({'state_dict': model.state_dict()}, path.with_suffix('.pth'))
    return path.with_suffix('.py'), path.with_suffix('.pth')


@pytest.fixture
def mp3(shrink, tmp_path):
    return save(shrink(TINY_MP3, {}), tmp_path / 'mp3')


@pytest.fixture
def classifier(tmp_path):
    """Fine-tuned on a larger grid, with relative positions."""
    cfg = Config.fromfile(CLASSIFIER)
    arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
    cfg.model.backbone.update(arch=arch, positions='relative')
    cfg.model.head.in_channels = 32
    return save(cfg, tmp_path / 'classifier')


@pytest.fixture
def analyze(tool, image_folder):
    def run(*args, images=image_folder):
        options = ('--images', images, '--batch-size', 4, '--num-workers', 0)
        return tool('analyze_attention.py', *args, *options)

    return run


def test_side_by_side(analyze, mp3, classifier, tmp_path, capsys):
    config, checkpoint = mp3
    second = tmp_path / 'later.pth'
    second.write_bytes(checkpoint.read_bytes())
    out = tmp_path / 'out'
    assert analyze(*mp3, second, *classifier, '--out', out) is None
    report = json.loads((out / 'attention.json').read_text())
    names = [f'{tmp_path.name}/{stem}' for stem in ('mp3', 'later', 'classifier')]
    assert [*report['models']] == names
    first, later, last = report['models'].values()
    assert first['config'] == later['config'] == str(config)
    assert first['relative'] == later['relative']
    assert first['relative']['num_images'] == 6  # those of val/
    assert first['relative']['largest_entropy'] == math.log(36)
    assert last['relative']['largest_entropy'] == math.log(49)
    assert np.shape(last['relative']['entropy']) == (2, 4)
    assert first['correlation']['within']['same_place'] == pytest.approx(1)
    arrays = np.load(out / 'attention.npz')
    assert arrays[f'{names[0]}/relative'].shape == (2, 4, 11, 11)
    assert arrays[f'{names[2]}/across'].shape == (7, 7, 7, 7)
    for name in ('relative', 'correlation'):
        picture = np.array(Image.open(out / f'{name}.png').convert('L'))
        assert picture.shape[1] > 900
        assert picture.std() > 10
    printed = capsys.readouterr().out
    assert 'at most 3.89' in printed
    assert f'wrote {out}/relative.png and {out}/correlation.png' in printed


def test_one_analysis(analyze, mp3):
    """The folder of the checkpoint is where results go."""
    options = ('--show', 'relative', '--heads', 1, '--layers', 2, '--names', 'η=0.5')
    assert analyze(*mp3, *options) is None
    folder = mp3[1].parent
    assert (folder / 'relative.png').exists()
    assert not (folder / 'correlation.png').exists()
    (model,) = json.loads((folder / 'attention.json').read_text())['models'].items()
    assert model[0] == 'η=0.5'
    assert 'correlation' not in model[1]


def test_values_are_those_of_the_checkpoint(analyze, mp3, image_folder):
    """The whole path by hand: crop, normalise, encode without positions or mask."""
    assert analyze(*mp3) is None
    found = np.load(mp3[1].parent / 'attention.npz')
    cfg = Config.fromfile(mp3[0])
    backbone = MODELS.build(cfg.model).backbone
    weights = torch.load(mp3[1])['state_dict']
    weights = {k[9:]: v for k, v in weights.items() if k.startswith('backbone.')}
    backbone.load_state_dict(weights)
    images = []
    for path in sorted((image_folder / 'val').iterdir()):
        rgb = np.array(Image.open(path))[8:104, 8:104].astype(np.float32)
        rgb = (rgb - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
        images.append(torch.tensor(rgb.transpose(2, 0, 1), dtype=torch.float32))
    expected = head_statistics(backbone, [torch.stack(images)])
    name = f'{mp3[1].parent.name}/mp3'
    np.testing.assert_allclose(found[f'{name}/entropy'], expected.entropy, rtol=1e-5)
    np.testing.assert_allclose(found[f'{name}/relative'], expected.relative, rtol=1e-4)


def test_fewer_images_are_spread_over_the_list(analyze, mp3, image_folder, tmp_path):
    paths = sorted((image_folder / 'train').iterdir())
    (tmp_path / 'list.txt').write_text(''.join(f'{paths[i]}\n' for i in (0, 11, 23)))
    entropies = []
    for images in (tmp_path / 'list.txt', image_folder / 'train'):
        assert analyze(*mp3, '--num-images', 3, images=images) is None
        arrays = np.load(mp3[1].parent / 'attention.npz')
        entropies.append(arrays[f'{mp3[1].parent.name}/mp3/entropy'])
    np.testing.assert_array_equal(*entropies)


def test_target_encoder_of_ijepa(analyze, tiny_ijepa, tmp_path):
    """As they evaluate it; without [CLS]."""
    cfg = tiny_ijepa()
    config, checkpoint = save(cfg, tmp_path / 'ijepa')
    weights = torch.load(checkpoint)['state_dict']
    for key, value in weights.items():
        if key.startswith('target_encoder.') and key.endswith('qkv.weight'):
            value.zero_()
        if key.startswith('target_encoder.') and key.endswith('qkv.bias'):
            value.zero_()
    torch.save({'state_dict': weights}, checkpoint)
    assert analyze(config, checkpoint, '--show', 'relative') is None
    report = json.loads((tmp_path / 'attention.json').read_text())
    (model,) = report['models'].values()
    np.testing.assert_allclose(model['relative']['entropy'], math.log(36), rtol=1e-5)
    assert not np.any(model['relative']['attention_to_prefix'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--heads', 5), 'mp3 has 4 heads a layer, got 5'),
        (('--layers', 3), 'mp3 has layers 1 to 2, got 3'),
        (('--names', 'a', 'b'), '1 checkpoints need as many different --names'),
        (('--num-images', 1), 'correlation across images needs at least two, got 1'),
        (('--num-images', -1), '--num-images must be at least 0'),
        (('--cfg-options', 'model.mask_ratoi=0'), 'model.mask_ratoi'),
    ],
)
def test_mistakes(analyze, mp3, options, message):
    assert message in analyze(*mp3, *options)


def test_mistakes_in_what_is_given(analyze, mp3, classifier, tmp_path):
    config, checkpoint = mp3
    assert 'needs a config before it' in analyze(checkpoint)
    assert f'{config} needs a checkpoint after it' in analyze(config)
    assert f'{config} needs a checkpoint' in analyze(config, *classifier)
    assert 'different --names' in analyze(config, checkpoint, checkpoint)
    assert "no config 'x.py'" in analyze('x.py', checkpoint)
    assert 'no checkpoint' in analyze(config, 'x.pth')
    assert 'of another model' in analyze(config, classifier[1])
    assert 'no such image folder' in analyze(*mp3, images='nowhere')
    message = analyze(*mp3, *classifier, '--heads', '1', '--names', 'a', 'b')
    assert message is None  # layers and heads are the same
    cfg = Config.fromfile(config)
    cfg.pop('val_pipeline')
    cfg.dump(tmp_path / 'blind.py')
    message = analyze(tmp_path / 'blind.py', checkpoint)
    assert 'has no val_pipeline or test_pipeline' in message


def test_no_vit(analyze, tmp_path):
    backbone = dict(type='ResNet', depth=18)
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(type='ImageClassifier', backbone=backbone),
            data_preprocessor=dict(),
            test_pipeline=[dict(type='PackInputs')],
        )
    )
    assert 'config of a ResNet' in analyze(*save(cfg, tmp_path / 'resnet'))
