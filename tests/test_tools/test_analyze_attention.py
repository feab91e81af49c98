"""analyze_attention.py as a user meets it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS as DETECTORS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from PIL import Image

from mmpospretrain.evaluation.attention import head_statistics
from mmpospretrain.evaluation.attention_diversity import (
    attention_diversity,
    query_attention,
)
from mmpospretrain.zoo.formats.export import export

ROOT = Path(__file__).parents[2]
TINY_MP3 = ROOT / 'configs/mp3/mp3_vit-tiny-p16_photoshapes.py'
POSFIELD = ROOT / 'configs/posfield/posfield_vit-tiny-p16_photoshapes.py'
DETECTOR = ROOT / 'configs/transfer/detection/mask-rcnn_vitdet-tiny-p16_photoshapes.py'
CLASSIFIER = ROOT / 'configs/transfer/classification/vit-tiny-p16_photoshapes.py'


def save(cfg, path, seed=0, std=0.1):
    """Config and checkpoint of random weights, as ``NAME.py`` and ``NAME.pth``."""
    torch.manual_seed(seed)
    model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
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


def backbone_of(config, checkpoint):
    backbone = MODELS.build(Config.fromfile(config).model).backbone
    weights = torch.load(checkpoint)['state_dict']
    weights = {k[9:]: v for k, v in weights.items() if k.startswith('backbone.')}
    backbone.load_state_dict(weights)
    return backbone


def normalise(images):
    """(B, 3, H, W) from RGB images."""
    rgb = (np.stack(images) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    return torch.tensor(rgb.transpose(0, 3, 1, 2), dtype=torch.float32)


def test_values_are_those_of_the_checkpoint(analyze, mp3, image_folder):
    """The whole path by hand: crop, normalise, encode without positions or mask."""
    assert analyze(*mp3) is None
    found = np.load(mp3[1].parent / 'attention.npz')
    paths = sorted((image_folder / 'val').iterdir())
    images = [np.array(Image.open(path))[8:104, 8:104] for path in paths]
    expected = head_statistics(backbone_of(*mp3), [normalise(images)])
    name = f'{mp3[1].parent.name}/mp3'
    np.testing.assert_allclose(found[f'{name}/entropy'], expected.entropy, rtol=1e-5)
    np.testing.assert_allclose(found[f'{name}/relative'], expected.relative, rtol=1e-4)


def test_diversity_and_queries(analyze, mp3, classifier, image_folder, tmp_path):
    """PosField's size by default; what is shown is what the model is given."""
    paths = sorted((image_folder / 'val').iterdir())
    wide = Image.open(paths[0]).resize((240, 120))  # its middle is cut out
    wide.save(tmp_path / 'wide.png')
    queries = ('--query', '0.5', '1.0', '--query', 16, 479)
    options = ('--show', 'diversity', 'query', *queries, '--names', 'MP3', 'tuned')
    options += ('--num-images', 2)  # the first and the last
    shown = ('--query-images', paths[1], tmp_path / 'wide.png')
    assert analyze(*mp3, *classifier, *options, *shown, '--out', tmp_path) is None
    report = json.loads((tmp_path / 'attention.json').read_text())
    diversity = report['models']['MP3']['diversity']
    assert diversity['image_size'] == [480, 480]
    assert diversity['num_images'] == 2
    assert len(report['models']['tuned']['diversity']['nmi']) == 2
    patches = report['models']['MP3']['query']
    assert patches == dict(grid_size=[30, 30], patches=[[29, 15], [29, 1]])
    assert report['arguments']['query'] == [['0.5', '1.0'], ['16', '479']]

    found = np.load(tmp_path / 'attention.npz')
    backbone = backbone_of(*mp3)
    bicubic = Image.Resampling.BICUBIC
    images = [np.array(Image.open(path).resize((480, 480), bicubic)) for path in paths]
    expected = attention_diversity(backbone, [normalise([images[0], images[-1]])])
    np.testing.assert_allclose(found['MP3/nmi'], expected.nmi, rtol=1e-3)
    np.testing.assert_allclose(found['MP3/distance'], expected.distance, rtol=1e-4)
    wide = np.array(wide.resize((960, 480), bicubic))[:, 240:720]
    points = [(240, 479), (16, 479)]
    expected = query_attention(backbone, [normalise([images[1], wide])], points).query
    np.testing.assert_allclose(found['MP3/query'], expected, rtol=1e-3)
    for name in ('diversity', 'query'):
        assert np.array(Image.open(tmp_path / f'{name}.png').convert('L')).std() > 10


def test_the_teacher_and_its_field(analyze, shrink, image_folder, tmp_path):
    """Of PosField the teacher is shown, on any grid; its field is tested elsewhere."""
    cfg = shrink(POSFIELD, {'model.head.num_prototypes': 16})
    files = save(cfg, tmp_path / 'it', std=0.5)
    paths = sorted((image_folder / 'val').iterdir())[:2]
    listed = tmp_path / 'two.txt'
    listed.write_text('\n'.join(map(str, paths)))
    options = ('--show', 'diversity', 'query', '--image-size', 64, '--names', 'it')
    shown = ('--query-images', paths[0])
    assert analyze(*files, *options, *shown, images=listed) is None
    found = np.load(tmp_path / 'attention.npz')
    model = MODELS.build(Config.fromfile(files[0]).model)
    model.load_state_dict(torch.load(files[1])['state_dict'])
    size = (64, 64), Image.Resampling.BICUBIC
    images = [np.array(Image.open(path).resize(*size)) for path in paths]
    expected = attention_diversity(model.target_encoder, [normalise(images)])
    np.testing.assert_allclose(found['it/nmi'], expected.nmi, rtol=1e-3)
    student = attention_diversity(model.backbone, [normalise(images)])
    assert not np.allclose(found['it/nmi'], student.nmi, rtol=1e-2)
    middle = [(32, 32)]
    expected = query_attention(model.target_encoder, [normalise(images[:1])], middle)
    np.testing.assert_allclose(found['it/query'], expected.query, rtol=1e-3)


def test_a_detector(analyze, image_folder, tmp_path):
    """Of MMDetection, without windows; squares, not images as its pipeline has them."""
    cfg = Config.fromfile(DETECTOR)
    cfg.model.backbone.update(window_size=0, init_cfg=None)
    cfg.dump(tmp_path / 'it.py')
    init_default_scope('mmdet')
    model = DETECTORS.build(cfg.model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'it.pth')
    files = (tmp_path / 'it.py', tmp_path / 'it.pth')
    options = ('--show', 'diversity', '--image-size', 64, '--num-images', 1)
    assert analyze(*files, *options, '--names', 'it') is None
    path = min((image_folder / 'val').iterdir())
    size = (64, 64), Image.Resampling.BICUBIC
    images = normalise([np.array(Image.open(path).resize(*size))])
    expected = attention_diversity(model.backbone, [images])
    found = np.load(tmp_path / 'attention.npz')
    np.testing.assert_allclose(found['it/distance'], expected.distance, rtol=1e-4)


def test_size_is_to_be_chosen(analyze, mp3, classifier):
    """Also of those that would go by the config."""
    show = ('--show', 'relative', 'diversity', '--image-size', 64)
    assert analyze(*mp3, *show) is None
    (model,) = json.loads((mp3[1].parent / 'attention.json').read_text())[
        'models'
    ].values()
    assert model['diversity']['image_size'] == [64, 64]
    assert model['relative']['largest_entropy'] == math.log(16)


def test_broken_images(analyze, mp3, image_folder, tmp_path):
    """Others take the place of some; if all are broken, there is nothing to say."""
    good = image_folder / 'val' / '000.jpg'
    folder = tmp_path / 'mixed'
    folder.mkdir()
    for index in range(4):
        content = good.read_bytes()
        (folder / f'{index}.jpg').write_bytes(content if index == 2 else content[:300])
    options = ('--show', 'diversity', '--image-size', 112)
    assert analyze(*mp3, *options, images=folder) is None
    found = np.load(tmp_path / 'attention.npz')[f'{tmp_path.name}/mp3/nmi']
    images = normalise([np.array(Image.open(good))])
    expected = attention_diversity(backbone_of(*mp3), [images]).nmi
    np.testing.assert_allclose(found, expected, rtol=1e-3)

    (folder / '2.jpg').unlink()
    message = analyze(*mp3, *options, images=folder)
    assert message == f'error: no image in {folder} can be read'
    message = analyze(*mp3, '--show', 'query', '--query-images', folder / '0.jpg')
    assert f'cannot read {folder}/0.jpg' in message


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
        (('--image-size', 0), '--image-size must be at least 1, got 0'),
        (('--image-size', 100), 'the nearest size that fits is 96x96'),
        (('--image-size', 16000), '4 of 16000x16000 at once have maps of 59605 GiB'),
    ],
)
def test_mistakes(analyze, mp3, options, message):
    assert message in analyze(*mp3, *options)


@pytest.mark.parametrize(
    ('query', 'message'),
    [
        (('480', '0'), 'no point (480, 0) in an image of 480x480 pixels'),
        (('0', '-1'), 'no point (0, -1) in an image of 480x480 pixels'),
        (('0.5', '1.01'), 'whole pixels, or shares from 0 to 1, got 1.01'),
        (('nan', '0'), 'whole pixels, or shares from 0 to 1, got nan'),
        (('here', '0'), "two numbers, got 'here'"),
    ],
)
def test_points_that_there_are_not(analyze, mp3, image_folder, query, message):
    images = ('--query-images', image_folder / 'val')
    assert message in analyze(*mp3, '--show', 'query', '--query', *query, *images)


def test_options_that_need_others(tool, mp3, image_folder, capsys):
    for options, message in (
        ((), 'correlation relative needs --images'),
        (('--show', 'query'), '--show query and --query-images need one another'),
        (('--images', image_folder, '--query', 0, 0), '--query needs --show query'),
    ):
        assert tool('analyze_attention.py', *mp3, *options) == 2
        assert message in capsys.readouterr().err


def test_mistakes_in_what_is_given(analyze, mp3, classifier, tmp_path):
    config, checkpoint = mp3
    assert 'needs a config before it' in analyze(checkpoint)
    assert f'{config} needs a checkpoint after it' in analyze(config)
    assert f'{config} needs a checkpoint' in analyze(config, *classifier)
    assert 'different --names' in analyze(config, checkpoint, checkpoint)
    assert "no config 'x.py'" in analyze('x.py', checkpoint)
    assert 'no checkpoint' in analyze(config, 'x.pth')
    (tmp_path / 'text.pth').write_text('hello')
    assert 'text.pth is no checkpoint' in analyze(config, tmp_path / 'text.pth')
    (tmp_path / 'empty').mkdir()
    assert f'no image in {tmp_path}/empty' in analyze(*mp3, images=tmp_path / 'empty')
    assert 'does not fit this PositionViT' in analyze(config, classifier[1])
    assert 'no such image folder' in analyze(*mp3, images='nowhere')
    message = analyze(*mp3, *classifier, '--heads', '1', '--names', 'a', 'b')
    assert message is None  # layers and heads are the same
    cfg = Config.fromfile(config)
    cfg.pop('val_pipeline')
    cfg.dump(tmp_path / 'blind.py')
    message = analyze(tmp_path / 'blind.py', checkpoint)
    assert 'has no val_pipeline or test_pipeline' in message


@pytest.mark.parametrize('kind', ['hf', 'timm', 'mmpretrain', 'safetensors'])
def test_released_weights(kind, analyze, tmp_path):
    """A backbone alone, in the names of others, looks at what it looked at."""
    cfg = Config.fromfile(CLASSIFIER)
    arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
    cfg.model.backbone.update(arch=arch, final_norm=True)  # as Hugging Face's has
    cfg.model.head.in_channels = 32
    config, checkpoint = save(cfg, tmp_path / 'whole', std=1)
    out = tmp_path / ('out.pth' if kind == 'mmpretrain' else 'out.safetensors')
    export(str(checkpoint), kind, out, num_heads=4, img_size=(112, 112))
    released = out / 'model.safetensors' if out.is_dir() else out
    names = ('--names', 'whole', 'released', '--show', 'relative')
    options = ('--out-dir', tmp_path / 'results')
    assert analyze(config, checkpoint, released, *names, *options) is None
    report = json.loads((tmp_path / 'results/attention.json').read_text())['models']
    whole, found = (report[name]['relative']['entropy'] for name in names[1:3])
    assert np.allclose(whole, found, atol=1e-4)
    assert np.ptp(whole) > 1e-3


def test_random_positions_are_refused(analyze, mp3, tmp_path):
    cfg = Config.fromfile(mp3[0])
    cfg.model.backbone.positions = 'learned'
    cfg.dump(tmp_path / 'learned.py')
    message = analyze(tmp_path / 'learned.py', mp3[1])
    assert 'random positions say nothing about a pre-training' in message


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
