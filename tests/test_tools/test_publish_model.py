"""tools/publish_model.py: from a checkpoint of a training to an entry of the zoo."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from safetensors import safe_open

from mmpospretrain.zoo import get_model, load_backbone, registry
from mmpospretrain.zoo.loading import load_checkpoint_file, load_strict
from mmpospretrain.zoo.metafile import read_metafile, write_model

ROOT = Path(__file__).parents[2]
BASE = ROOT / 'configs/posfield/posfield_vit-tiny-p16_photoshapes.py'
SMALL = f"""
_base_ = {str(BASE)!r}
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=1, feedforward_channels=32),
        field_size=7,
        field_mode='bilinear',
    ),
    head=dict(num_prototypes=16, hidden_dims=8, bottleneck_dims=8),
)
work_dir = 'work_dirs/secret'
"""


@pytest.fixture
def config(tmp_path) -> Path:
    """A small PosField in a zoo of its own."""
    path = tmp_path / 'configs/posfield/small.py'
    path.parent.mkdir(parents=True)
    path.write_text(SMALL)
    path.with_name('metafile.yml').write_text(
        'Collections:\n  - Name: PosField\nModels:\n  - Name: small\n'
        '    In Collection: PosField\n    Metadata: {Epochs: 14}\n'
        '    Config: configs/posfield/small.py\n'
        '    Results: [{Task: T, Dataset: D, Metrics: {a: 1}}]\n'
        '    Checkpoint: {Log: l}\n'
    )
    index = 'Import: [configs/posfield/metafile.yml]\n'
    (tmp_path / 'model-index.yml').write_text(index)
    return path


@pytest.fixture(scope='module')
def trained() -> dict:
    """What MMEngine saves."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    cfg = Config.fromstring(SMALL, '.py')
    return {
        'state_dict': MODELS.build(cfg.model).state_dict(),
        'meta': {'cfg': cfg.pretty_text, 'epoch': 14, 'iter': 28, 'time': 'now'},
        'optimizer': {'state': {0: {'exp_avg': torch.ones(9)}}},
        'message_hub': {'log_scalars': {}},
    }


@pytest.fixture
def checkpoint(trained, tmp_path) -> Path:
    path = tmp_path / 'epoch_14.pth'
    torch.save(trained, path)
    return path


def metafile_of(config: Path) -> str:
    return config.with_name('metafile.yml').read_text()


def change(checkpoint: Path, edit) -> None:
    content = load_checkpoint_file(checkpoint)
    edit(content)
    torch.save(content, checkpoint)


def test_published_and_used(tool, config, checkpoint, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    arguments = ['--out', out, '--url', 'https://example.org/zoo/']
    assert tool('publish_model.py', config, checkpoint, *arguments) is None
    (path,) = out.iterdir()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'small-{sha256[:8]}.safetensors'

    # The weights, what builds their model, and nothing of the training or the machine.
    weights = load_checkpoint_file(checkpoint)['state_dict']
    with safe_open(path, 'pt') as file:
        assert {*file.keys()} == weights.keys()
        (metadata,) = file.metadata().values()
    assert 'secret' not in metadata
    meta = json.loads(metadata)
    assert meta.keys() == {'cfg', 'epoch', 'iter', 'mmpospretrain'}
    assert (meta['epoch'], meta['iter']) == (14, 28)
    kept = Config.fromstring(meta['cfg'], '.py')
    load_strict(MODELS.build(kept.model), path)

    (model,) = read_metafile(config.with_name('metafile.yml'))['Models']
    assert model == {
        'Name': 'small',
        'In Collection': 'PosField',
        'Metadata': {'Epochs': 14},
        'Config': 'configs/posfield/small.py',
        'Weights': f'https://example.org/zoo/{path.name}',
        'Results': [{'Task': 'T', 'Dataset': 'D', 'Metrics': {'a': 1}}],
        'Checkpoint': {
            'Log': 'l',
            'Format': 'mmpospretrain',
            'Licence': 'Apache-2.0',
            'File': path.name,
            'SHA256': sha256,
        },
    }

    # Its user has a mirror, and gets the model by its name.
    zoo = registry.entries(tmp_path)
    monkeypatch.setattr(registry, 'entries', lambda: zoo)
    monkeypatch.setenv('MMPOSPRETRAIN_MIRROR', str(out))
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(tmp_path / 'cache'))
    published = get_model('small', pretrained=True).state_dict()
    assert all(torch.equal(published[key], weights[key]) for key in weights)
    assert os.listdir(tmp_path / 'cache')
    # Its backbone knows how its field is sampled, from the config in the file.
    backbone = MODELS.build(
        dict(
            type='mmpospretrain.PositionViT',
            arch=dict(
                embed_dims=32, num_layers=1, num_heads=4, feedforward_channels=32
            ),
            positions='learned',
            img_size=112,
        )
    )
    line = load_backbone(backbone, 'zoo://small')
    assert 'pos_embed sampled from the 7x7 field on 7x7 (bilinear)' in line


def test_the_same_weights_have_the_same_name(tool, config, checkpoint, tmp_path):
    for _ in range(2):
        assert not tool('publish_model.py', config, checkpoint, '--out', tmp_path / 'o')
    assert len(os.listdir(tmp_path / 'o')) == 1
    assert 'Weights: null' in metafile_of(config)


def test_a_new_name(tool, config, checkpoint, tmp_path):
    arguments = ['--out', tmp_path / 'out', '--name', 'small-seed1']
    assert tool('publish_model.py', config, checkpoint, *arguments) is None
    old, new = read_metafile(config.with_name('metafile.yml'))['Models']
    assert old['Name'] == 'small'
    assert old['Checkpoint'] == {'Log': 'l'}
    assert (new['Name'], new['In Collection']) == ('small-seed1', 'PosField')
    assert (new['Metadata'], 'Results' in new) == ({'Epochs': 14}, False)


@pytest.mark.parametrize('name', ['../up', '/tmp/up', 'a/b', r'a\b', '.', 'a b'])
def test_a_name_that_is_none(tool, config, checkpoint, tmp_path, name):
    before = sorted(tmp_path.rglob('*'))
    out = ['--out', tmp_path / 'out', '--name', name]
    assert 'no model can be called' in tool(
        'publish_model.py', config, checkpoint, *out
    )
    assert sorted(tmp_path.rglob('*')) == before


def drop_a_weight(content):
    del content['state_dict']['pos_mask_token']


def make_nan(content):
    content['state_dict']['mask_token'][..., 0] = float('nan')


def train_with_other_options(content):
    meta = content['meta']
    meta['cfg'] = meta['cfg'].replace("shape='cross'", "shape='box'")


@pytest.mark.parametrize(
    ('edit', 'words'),
    [
        (drop_a_weight, ['another model', 'missing', 'pos_mask_token']),
        (make_nan, ['not finite: mask_token']),
        (train_with_other_options, ['model.position_shape is box, not', 'Write a con']),
    ],
)
def test_refused_checkpoints(tool, config, checkpoint, tmp_path, edit, words):
    change(checkpoint, edit)
    before = metafile_of(config)
    error = tool('publish_model.py', config, checkpoint, '--out', tmp_path / 'out')
    assert all(word in error for word in words), error
    assert not (tmp_path / 'out').exists()
    assert metafile_of(config) == before


def test_a_config_in_a_checkpoint_is_never_run(tool, config, checkpoint, tmp_path):
    """It is Python, of whoever made the file."""
    trace = tmp_path / 'trace'

    def add_code(content):
        content['meta']['cfg'] += f'\nopen({str(trace)!r}, "w")\n'

    change(checkpoint, add_code)
    out = ['--out', tmp_path / 'out']
    assert tool('publish_model.py', config, checkpoint, *out) is None
    # The options beside that code are still compared.
    change(checkpoint, train_with_other_options)
    change(checkpoint, add_code)
    error = tool('publish_model.py', config, checkpoint, *out)
    assert 'model.position_shape is box' in error
    assert not trace.exists()


def test_a_config_of_ones_own(tool, config, checkpoint, tmp_path):
    """The error says how it gets into the zoo, and that is a way."""
    out = ['--out', tmp_path / 'out']
    mine = tmp_path / 'mine.py'
    mine.write_text(config.read_text())
    metafile = config.with_name('metafile.yml')
    for options in ([], ['--metafile', metafile]):
        error = tool('publish_model.py', mine, checkpoint, *out, *options)
        assert f'{mine} is in no folder configs/' in error
        assert 'copy it into configs/METHOD/, add it to the metafile.yml there' in error
    # One that the zoo of the metafile would not find.
    other = tmp_path / 'other/configs/mine.py'
    other.parent.mkdir(parents=True)
    other.write_text(config.read_text())
    error = tool('publish_model.py', other, checkpoint, *out, '--metafile', metafile)
    assert f'configs/ that {metafile} is in, too' in error
    assert not (tmp_path / 'out').exists()

    copied = config.with_name('mine.py')
    copied.write_text(mine.read_text())
    write_model(
        metafile,
        {
            'Name': 'mine',
            'In Collection': 'PosField',
            'Metadata': {'Epochs': 2},
            'Config': 'configs/posfield/mine.py',
        },
    )
    assert tool('publish_model.py', copied, checkpoint, *out) is None
    assert registry.entries(tmp_path)['mine'].filename.startswith('mine-')


def test_unknown_places(tool, config, checkpoint, tmp_path):
    out = ['--out', tmp_path / 'out']
    other = config.with_name('other.py')
    other.write_text(config.read_text())
    error = tool('publish_model.py', other, checkpoint, *out)
    assert "neither a model 'other' nor one of configs/posfield/other.py" in error
    config.with_name('metafile.yml').unlink()
    error = tool('publish_model.py', config, checkpoint, *out)
    assert 'metafile.yml: give --metafile' in error
    assert not (tmp_path / 'out').exists()
