"""eval_positions.py and visualize_positions.py on MP3 as a user meets them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain import get_model
from PIL import Image

from mmpospretrain.evaluation.position_curve import position_curve
from mmpospretrain.models import MP3
from mmpospretrain.models.positions import gather_tokens

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY_MP3 = CONFIGS / 'mp3/mp3_vit-tiny-p16_photoshapes.py'


@pytest.fixture
def trained(shrink, image_folder, tmp_path):
    """Config file, checkpoint and model; the model predicts place 3 everywhere."""
    loader = 'test_dataloader'
    options = {f'{loader}.dataset.data_root': str(image_folder)}
    cfg = shrink(TINY_MP3, {**options, f'{loader}.num_workers': 0})
    cfg.dump(tmp_path / 'config.py')
    model = get_model(cfg)
    torch.nn.init.zeros_(model.head.classifier.weight)
    model.head.classifier.bias.data = torch.eye(36)[3]
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    return tmp_path / 'config.py', tmp_path / 'model.pth', model


@pytest.fixture
def draw(tool, trained, tmp_path):
    """Run visualize_positions.py; the pixels of its picture, or its error."""
    out = tmp_path / 'new/out.png'

    def run(*args):
        error = tool('visualize_positions.py', *trained[:2], *args, '--out', out)
        return error or np.asarray(Image.open(out).convert('RGB'))

    return run


def test_eval_positions(tool, trained, tmp_path, capsys):
    config, checkpoint, model = trained
    assert tool('eval_positions.py', config, checkpoint) is None
    report = json.loads((tmp_path / 'positions.json').read_text())
    assert report['mask_ratios'] == [k / 10 for k in range(10)]
    loader = [dict(inputs=torch.zeros(6, 3, 96, 96), data_samples=None)]
    expected = position_curve(model, loader).to_dict()
    assert report['accuracy'] == expected['accuracy']
    assert report['accuracy']['all'] == [pytest.approx(100 / 36)] * 10
    printed = capsys.readouterr().out
    assert '6 images, chance 2.78' in printed
    assert '│ 0.00 │ 2.78 │    2.78 │      – │' in printed
    assert 'nan' not in printed.lower()
    assert Image.open(tmp_path / 'positions.png').width > 500

    options = ['--num-images', 4, '--batch-size', 3, '--mask-ratios', 0.5, 0]
    assert tool('eval_positions.py', config, checkpoint, *options) is None
    report = json.loads((tmp_path / 'positions.json').read_text())
    assert report['num_images'] == 4
    assert report['mask_ratios'] == [0.5, 0]
    assert report['accuracy']['masked'][1] is None


def test_ratios_of_droppos(tool, tiny_config, tmp_path):
    cfg = tiny_config()
    cfg.dump(tmp_path / 'droppos.py')
    torch.save({'state_dict': get_model(cfg).state_dict()}, tmp_path / 'droppos.pth')
    args = [tmp_path / 'droppos.py', tmp_path / 'droppos.pth', '--mask-ratios', 0.5]
    assert tool('eval_positions.py', *args) is None
    report = json.loads((tmp_path / 'positions.json').read_text())
    assert report['mask_ratios'] == [0.5]
    assert np.shape(report['accuracy']) == (1, 4)


def test_jigsaws(draw, image_folder):
    one = draw(image_folder / 'val/000.jpg')
    two = draw(image_folder / 'val', '--num-images', 2)
    three = draw(image_folder / 'val', '--num-images', 3)
    assert two.shape == (one.shape[0], 2 * one.shape[1], 3)
    assert three.shape == (2 * one.shape[0], 2 * one.shape[1], 3)
    narrow = draw(image_folder / 'val/000.jpg', '--mask-ratios', 0.25, 0.5)
    assert narrow.shape[1] < 0.7 * one.shape[1]
    again = draw(image_folder / 'val/000.jpg')
    assert np.array_equal(one, again)
    other = draw(image_folder / 'val/000.jpg', '--seed', 1)
    assert not np.array_equal(one, other)


def test_mix(draw, image_folder):
    images = [image_folder / 'val' / f'00{k}.jpg' for k in range(2)]
    mixed = draw(*images, '--mix')
    short = draw(*images, '--mix', '--mask-ratios', 0, 0.5)
    assert short.shape[1] == mixed.shape[1]
    assert short.shape[0] < 0.6 * mixed.shape[0]
    assert np.array_equal(mixed, draw(*images, '--mix'))
    assert not np.array_equal(mixed, draw(*images, '--mix', '--seed', 1))


def test_pictures_lie_beside_the_checkpoint(tool, trained, image_folder, tmp_path):
    images = [image_folder / 'val' / f'00{k}.jpg' for k in range(2)]
    for options, name in (([], 'puzzle.png'), (['--mix'], 'mix.png')):
        args = (*images, *options)
        assert tool('visualize_positions.py', *trained[:2], *args) is None
        assert Image.open(tmp_path / name).width > 500


@pytest.mark.parametrize('mix', [[], ['--mix']])
def test_mp3_has_no_ratio_of_positions(draw, image_folder, mix):
    args = [image_folder / 'val', '--num-images', 2, *mix, '--pos-mask-ratio', 0.5]
    assert draw(*args).startswith('error: --pos-mask-ratio 0.5 is for DropPos; in MP3')


def test_mix_sends_the_patches_that_are_seen(draw, trained, tmp_path, monkeypatch):
    """A model that tells red from blue: pixels go where their tokens are sent."""
    _, checkpoint, model = trained
    kernel = model.backbone.patch_embed.projection.weight.data.zero_()
    kernel[0, 0], kernel[0, 2] = 1, -1
    torch.save({'state_dict': model.state_dict()}, checkpoint)

    def locate(self, patches, split):
        is_red = gather_tokens(patches, split.ids)[..., 0] > 0
        return torch.nn.functional.one_hot(torch.where(is_red, 0, 35), 36)

    monkeypatch.setattr(MP3, 'locate', locate)
    for name, colour in (('a', (250, 0, 0)), ('b', (0, 0, 250))):
        Image.new('RGB', (96, 96), colour).save(tmp_path / f'{name}.png')
    picture = draw(tmp_path / 'a.png', tmp_path / 'b.png', '--mix').astype(int)
    last = picture[:, -picture.shape[1] // 6 + 20 :]  # reconstruction 2
    red, green, blue = last.reshape(-1, 3).T
    patch = 30**2  # pixels of the picture, without blurred edges
    assert ((red > 240) & (green + blue < 10)).sum() > 4 * patch
    assert ((blue > 240) & (red + green < 10)).sum() > 4 * patch
    assert not ((red > 40) & (blue > 40) & (green < 5)).any()


def test_mix_on_wrong_input(draw, tool, image_folder, tiny_config, tmp_path):
    folder = image_folder / 'val'
    assert 'exactly two images, got 6' in draw(folder, '--mix')
    assert 'exactly two images, got 1' in draw(folder / '000.jpg', '--mix')
    cfg = tiny_config()
    cfg.dump(tmp_path / 'droppos.py')
    torch.save({'state_dict': get_model(cfg).state_dict()}, tmp_path / 'droppos.pth')
    error = tool(
        *('visualize_positions.py', tmp_path / 'droppos.py', tmp_path / 'droppos.pth'),
        *(folder, '--num-images', 2, '--mix', '--out', tmp_path / 'out.png'),
    )
    assert error.startswith('error: --mix is for MP3')
    assert 'not for a DropPos' in error
