"""eval_positions.py, visualize_positions.py and demo.py as a user meets them."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from mmpretrain.registry import MODELS
from PIL import Image

from mmpospretrain.engine.steps import StepRunner
from mmpospretrain.evaluation.position_table import position_table

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'


@pytest.fixture
def trained(tiny_config, tmp_path):
    """Config file, checkpoint and model; the model predicts place 3 everywhere."""
    cfg = tiny_config()
    cfg.dump(tmp_path / 'config.py')
    model = get_model(cfg)
    torch.nn.init.zeros_(model.head.classifier.weight)
    model.head.classifier.bias.data = torch.eye(36)[3]
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    return tmp_path / 'config.py', tmp_path / 'model.pth', model


def test_eval_positions(tool, trained, tmp_path, capsys):
    config, checkpoint, model = trained
    assert tool('eval_positions.py', config, checkpoint) is None
    table = json.loads((tmp_path / 'positions.json').read_text())
    assert f'average {table["average"]:.2f}, chance 2.78' in capsys.readouterr().out
    assert table['num_images'] == 6
    images = torch.zeros(6, 3, 96, 96)  # which this model does not look at
    loader = [dict(inputs=images, data_samples=None)]
    assert table['accuracy'] == position_table(model, loader).accuracy.tolist()
    assert Image.open(tmp_path / 'positions.png').width > 500

    options = ['--num-images', 4, '--batch-size', 3, '--out', tmp_path / 'new/out']
    assert tool('eval_positions.py', config, checkpoint, *options) is None
    table = json.loads((tmp_path / 'new/out/positions.json').read_text())
    assert table['num_images'] == 4


def test_eval_positions_on_wrong_input(tool, trained, tmp_path, image_folder):
    config, checkpoint, _ = trained
    error = tool('eval_positions.py', config, tmp_path / 'none.pth')
    assert error.startswith('error: no checkpoint at')
    options = ['--cfg-options', 'model.backbone.arch.num_layers=1']
    error = tool('eval_positions.py', config, checkpoint, *options)
    assert 'is a checkpoint of another model' in error
    flat = image_folder / 'val'
    error = tool('eval_positions.py', config, checkpoint, '--data', flat)
    assert 'train/ and val/ side by side' in error
    for option in ('--num-images', '--batch-size'):
        error = tool('eval_positions.py', config, checkpoint, option, -5)
        assert error == f'error: {option} must be at least 1, got -5'


def test_eval_positions_of_other_models(tool, tmp_path, tiny_ijepa):
    """Neither what it is, nor its data, is left to a traceback."""
    model = MODELS.build(tiny_ijepa().model)
    torch.save(model.state_dict(), tmp_path / 'ijepa.pth')
    tiny_ijepa().dump(tmp_path / 'ijepa.py')
    error = tool('eval_positions.py', tmp_path / 'ijepa.py', tmp_path / 'ijepa.pth')
    assert 'reconstructed by DropPos, MP3 and their kin, not by a IJEPA' in error

    cifar = ROOT / 'configs/mp3/mp3_vit-small-p4_1xb256-coslr-2000e_cifar100.py'
    model = MODELS.build(Config.fromfile(cifar).model)
    torch.save(model.state_dict(), tmp_path / 'mp3.pth')
    data = ('--data', tmp_path)
    error = tool('eval_positions.py', cifar, tmp_path / 'mp3.pth', *data)
    assert 'cifar-100-python/train' in error


def test_visualize_positions(tool, trained, tmp_path, image_folder):
    config, checkpoint, _ = trained
    folder, file = image_folder / 'val', image_folder / 'train/000.jpg'
    out = tmp_path / 'new/out.png'
    options = ['--out', out, '--num-images', 2, '--mask-ratios', 0, 0.5]
    assert tool('visualize_positions.py', config, checkpoint, folder, *options) is None
    shown = np.asarray(Image.open(out).convert('RGB'))
    assert tool('visualize_positions.py', config, checkpoint, file, *options) is None
    one = np.asarray(Image.open(out).convert('RGB'))
    assert shown.shape[1] == one.shape[1] < shown.shape[0] * 3
    assert shown.shape[0] > 1.5 * one.shape[0]
    right = one[:, 2 * one.shape[1] // 3 :].reshape(-1, 3)  # the original, in colour
    expected = np.asarray(Image.open(file).crop((8, 8, 104, 104))).mean((0, 1))
    coloured = right[np.ptp(right, axis=1) > 20]
    assert np.argmax(coloured.mean(0)) == np.argmax(expected)


def test_visualize_positions_on_wrong_input(tool, trained, tmp_path):
    config, checkpoint, _ = trained
    error = tool('visualize_positions.py', config, checkpoint, tmp_path / 'none')
    assert 'there is no image or folder' in error
    (tmp_path / 'empty').mkdir()
    error = tool('visualize_positions.py', config, checkpoint, tmp_path / 'empty')
    assert 'no image in' in error
    error = tool('visualize_positions.py', config, checkpoint, config)
    assert error.startswith(f'error: cannot read {config}')


def test_the_puzzle_lies_beside_the_checkpoint(
    tool, trained, tmp_path, image_folder, monkeypatch, capsys
):
    config, checkpoint, _ = trained
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    file = image_folder / 'val/000.jpg'
    assert tool('visualize_positions.py', config, checkpoint, file) is None
    assert f'wrote {tmp_path}/puzzle.png' in capsys.readouterr().out
    assert Image.open(tmp_path / 'puzzle.png').width > 500
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--num-images', -3], '--num-images must be at least 1, got -3'),
        (['--num-images', 0], '--num-images must be at least 1, got 0'),
        (['--pos-mask-ratio', 1.5], '--pos-mask-ratio must lie in [0, 1], got 1.5'),
        (['--pos-mask-ratio', -0.5], '--pos-mask-ratio must lie in [0, 1], got -0.5'),
        (['--mask-ratios', 1], '--mask-ratios must lie in [0, 1), got 1.0'),
    ],
)
def test_visualize_positions_out_of_range(
    tool, trained, tmp_path, image_folder, options, message
):
    config, checkpoint, _ = trained
    args = [image_folder / 'val', *options, '--out', tmp_path / 'out.png']
    error = tool('visualize_positions.py', config, checkpoint, *args)
    assert error == f'error: {message}'
    assert not (tmp_path / 'out.png').exists()


@pytest.mark.parametrize('ratio', [0, 1])
def test_all_or_none_of_the_positions_dropped(
    tool, trained, tmp_path, image_folder, ratio
):
    config, checkpoint, _ = trained
    args = [image_folder / 'val/000.jpg', '--pos-mask-ratio', ratio]
    assert tool('visualize_positions.py', config, checkpoint, *args) is None


def write_transfer(folder: Path) -> None:
    """What tools/transfer.py leaves behind, which has tests of its own."""
    tasks = {}
    for name in ('detection', 'segmentation'):
        (folder / name).mkdir(parents=True)
        tasks[name] = dict(summary=f'{name}: 3.0, scratch 2.0')
        for picture in ('curves.png', 'predictions.png'):
            Image.new('RGB', (300, 300)).save(folder / name / picture, compress_level=0)
    (folder / 'report.json').write_text(json.dumps(dict(tasks=tasks)))


@pytest.fixture
def demo(monkeypatch, tiny_config, tmp_path, tool):
    """The demo with a tiny config and steps in this process; returns its exit code."""
    cfg = tiny_config(**{'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1})
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.dump(tmp_path / 'config.py')
    spec = importlib.util.spec_from_file_location('demo', TOOLS / 'demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.CONFIG = str(tmp_path / 'config.py')
    monkeypatch.chdir(TOOLS.parent)
    executed = []

    def execute(self, arguments):
        executed.append(arguments)
        if arguments[0] == '-m':
            monkeypatch.setattr(sys, 'argv', arguments[1:])
            importlib.import_module(arguments[1]).main()
        elif arguments[0] == 'tools/transfer.py':
            write_transfer(Path(arguments[-1]))
        else:
            assert tool(Path(arguments[0]).name, *arguments[1:]) is None

    monkeypatch.setattr(StepRunner, '_execute', execute)

    def run(*args, times_chance=3):
        module.TIMES_CHANCE = times_chance
        monkeypatch.setattr(sys, 'argv', ['demo.py', *map(str, args)])
        with pytest.raises(SystemExit) as exit_:
            module.main(module.parse_args())
        return exit_.value.code

    run.executed = executed
    return run


def test_demo(demo, tmp_path, capsys):
    work_dir = tmp_path / 'demo'
    args = ['--work-dir', work_dir, '--images', 8, '--val-images', 6, '--no-transfer']
    assert demo(*args) == 1  # two iterations teach nothing
    assert len(demo.executed) == 4
    table = json.loads((work_dir / 'positions/positions.json').read_text())
    page = (work_dir / 'index.html').read_text()
    verdict = f'Position accuracy {table["average"]:.1f} %, averaged over 16 cases'
    assert verdict in page
    assert 'has not learned' in page
    assert 'epochs, 2 iterations of 4 images' in page
    pictures = re.findall('src="(.*?)"', page)
    assert len(pictures) == 4
    assert all((work_dir / name).stat().st_size > 1000 for name in pictures)
    assert str(work_dir / 'index.html') in capsys.readouterr().out

    # Nothing is done twice; and the same numbers pass where less is asked for.
    assert demo(*args, times_chance=0) == 0
    assert len(demo.executed) == 4
    assert 'has learned' in (work_dir / 'index.html').read_text()

    # A new model needs a new table.
    shutil.rmtree(work_dir / 'training')
    demo(*args)
    assert [command[0] for command in demo.executed[4:]] == [
        'tools/train.py',
        'tools/eval_positions.py',
        'tools/visualize_positions.py',
    ]

    assert 'another --work-dir' in demo('--work-dir', work_dir, '--images', 9)

    # On to the transfer, with what is there.
    demo.executed.clear()
    assert demo(*args[:-1], times_chance=0) == 0
    (command,) = demo.executed
    assert [*command[:4]] == [
        'tools/transfer.py',
        str(work_dir / 'training/epoch_1.pth'),
        '--data',
        str(work_dir / 'photoshapes'),
    ]
    page = (work_dir / 'index.html').read_text()
    assert 'Transfer: detection: 3.0, scratch 2.0; segmentation: 3.0' in page
    pictures = re.findall('src="(.*?)"', page)
    assert len(pictures) == 4 + 4
    assert all((work_dir / name).stat().st_size > 1000 for name in pictures)
