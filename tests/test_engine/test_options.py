"""No option is dropped: what an argument of a tool would override is an error."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmpospretrain.engine.cli import HOW_TO_READ, load_config, set_pretrained
from mmpospretrain.engine.options import options_kept

ROOT = Path(__file__).parents[2]
PRETRAINING = ROOT / 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'
UPERNET = ROOT / 'configs/transfer/segmentation/upernet_vit-tiny-p16_photoshapes.py'


@pytest.fixture
def cfg():
    return Config(
        dict(
            work_dir='a',
            model=dict(backbone=dict(init_cfg=dict(checkpoint='a', prefix='b.'))),
            train_dataloader=dict(dataset=dict(data_root='a', extra=1)),
            val_dataloader=dict(num_workers=0),
            hooks=[dict(interval=1), dict(interval=2)],
        )
    )


@pytest.mark.parametrize(
    ('key', 'change'),
    [
        ('work_dir', lambda cfg: cfg.update(work_dir='b')),
        (
            'model.backbone.init_cfg.checkpoint',
            lambda cfg: cfg.model.backbone.init_cfg.update(checkpoint='b'),
        ),
        (
            'model.backbone.init_cfg.prefix',
            lambda cfg: cfg.model.backbone.update(init_cfg=None),
        ),
        (
            'train_dataloader.dataset',  # given as a dict: each of its keys counts
            lambda cfg: cfg.train_dataloader.dataset.update(data_root='b'),
        ),
        ('hooks.1.interval', lambda cfg: cfg.hooks.pop()),
        ('hooks.0.interval', lambda cfg: cfg.hooks[0].update(interval=5)),
    ],
)
def test_overridden(cfg, key, change):
    message = rf'--cfg-options {key}.* --some thing'
    kept = options_kept(cfg, {key: None}, '--some thing')
    with pytest.raises(ValueError, match=message), kept:
        change(cfg)


def test_what_stays_is_no_error(cfg):
    options = dict.fromkeys(['work_dir', 'hooks.0.interval', 'train_dataloader'])
    with options_kept(cfg, options, '--data x'):
        cfg.work_dir = 'a'
        cfg.new = 1
        cfg.train_dataloader.dataset.more = 2
    with options_kept(cfg, None, '--data x'):
        cfg.work_dir = 'b'
    with options_kept(cfg, {'val_dataloader.num_workers': 0}, '--data x', ('val_',)):
        cfg.val_dataloader = None
    kept = options_kept(cfg, {'train_dataloader': 0}, '--data x', ('val_',))
    with pytest.raises(ValueError, match='takes its place away'), kept:
        cfg.train_dataloader = None


def test_errors_inside_are_not_hidden(cfg):
    with pytest.raises(KeyError), options_kept(cfg, {'work_dir': 'a'}, '--data x'):
        cfg.update(work_dir={}['lost'])


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({'state_dict': {'backbone.pos_embed': torch.zeros(1)}}, tmp_path / 'a')
    return str(tmp_path / 'a')


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('prefix', 'nonsense.'),
        ('source_grid', [4, 9]),
        ('map_location', 'meta'),
    ],
)
def test_how_a_checkpoint_is_read_is_kept(option, value, checkpoint):
    key = f'model.backbone.init_cfg.{option}'
    options = {key: value}
    cfg = load_config(str(UPERNET), options)
    with options_kept(cfg, options, '--pretrained'):
        set_pretrained(cfg, checkpoint)
    assert cfg.model.backbone.init_cfg == {
        'type': 'mmpospretrain.PretrainedBackbone',
        'checkpoint': checkpoint,
        option: value,
    }
    with options_kept(cfg, options, '--pretrained none', HOW_TO_READ):
        set_pretrained(cfg, 'none')  # reads nothing
    assert cfg.model.backbone.init_cfg is None


def test_no_backbone_to_start():
    with pytest.raises(ValueError, match=r'no model\.backbone'):
        set_pretrained(Config(dict(model=dict(type='X'))), 'none')


@pytest.mark.parametrize(
    ('arguments', 'option'),
    [
        (['--work-dir', 'b'], 'work_dir=a'),
        ([], 'launcher=pytorch'),
        (['--resume'], 'load_from=x.pth'),
        (['--resume'], 'resume=False'),
        (['--no-validate'], 'val_cfg.fp16=True'),
        (['--no-validate'], 'val_dataloader.batch_size=3'),
        (['--no-persistent-workers'], 'train_dataloader.persistent_workers=True'),
        (['--data', 'DATA'], 'train_dataloader.dataset.data_root=x'),
        (['--data', 'DATA'], 'val_dataloader.dataset.data_prefix=x'),
        (['--pretrained', 'none'], 'model.backbone.init_cfg.checkpoint=x'),
        (['--pretrained', 'FILE'], 'model.backbone.init_cfg.checkpoint=x'),
    ],
)
def test_train(tool, image_folder, checkpoint, arguments, option, tmp_path):
    given = [{'DATA': image_folder, 'FILE': checkpoint}.get(a, a) for a in arguments]
    work = [] if '--work-dir' in given else ['--work-dir', tmp_path / 'w']
    data = [] if '--data' in given else ['--data', image_folder]
    given += ['--cfg-options', option]
    error = tool('train.py', PRETRAINING, *work, *data, *given)
    assert error.startswith(f'error: --cfg-options {option.partition("=")[0]}=')
    assert 'would be without effect: ' in error
    argument = arguments[0] if arguments else '--launcher none'
    assert argument in error


@pytest.mark.parametrize(
    ('name', 'arguments', 'option'),
    [
        ('test.py', [], 'load_from=x.pth'),
        ('test.py', ['--work-dir', 'b'], 'work_dir=a'),
        ('test.py', [], 'launcher=slurm'),
        ('test.py', [], 'test_dataloader.dataset.data_root=x'),
    ],
)
def test_test(tool, image_folder, checkpoint, name, arguments, option):
    common = [PRETRAINING, checkpoint, '--data', image_folder, *arguments]
    error = tool(name, *common, '--cfg-options', option)
    assert error.startswith(f'error: --cfg-options {option.partition("=")[0]}=')


@pytest.mark.parametrize('name', ['test.py', 'eval_positions.py'])
def test_a_config_without_a_test(tool, name, tmp_path, image_folder, monkeypatch):
    cfg = Config.fromfile(PRETRAINING)
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.dump(tmp_path / 'dumped.py')
    torch.save({}, tmp_path / 'a.pth')
    monkeypatch.setattr('mmpospretrain.engine.cli.load_strict', lambda *args: None)
    monkeypatch.setattr('mmpospretrain.engine.cli.match_prefix_tokens', print)
    error = tool(
        name, tmp_path / 'dumped.py', tmp_path / 'a.pth', '--data', image_folder
    )
    assert f'{tmp_path / "dumped.py"} has no test_dataloader' in error
    assert str(image_folder) not in error
