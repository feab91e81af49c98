"""The zoo: metafiles, the models they name, and their weights."""

import os
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.apis.model import ModelHub
from modelindex.load_model_index import load
from setuptools import Distribution

from mmpospretrain.zoo import get_model, list_models
from mmpospretrain.zoo.formats import FAMILIES
from mmpospretrain.zoo.loading import load_checkpoint_file
from mmpospretrain.zoo.metafile import (
    MIM,
    config_path,
    dump_metafile,
    metafiles,
    read_metafile,
    write_model,
)
from mmpospretrain.zoo.registry import entries, fetch_entry, find

ROOT = Path(__file__).parents[2]
TINY = 'droppos_vit-tiny-p16_photoshapes'
BY_HAND = 'droppos_vit-base-p16_3rdparty-200e_in1k'
SMALL = dict(
    backbone=dict(arch=dict(embed_dims=32, num_layers=1, feedforward_channels=32)),
    head=dict(decoder_dims=32),
)


@pytest.fixture(autouse=True)
def zoo_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('MMPOSPRETRAIN_CACHE', str(tmp_path / 'cache'))
    monkeypatch.delenv('MMPOSPRETRAIN_MIRROR', raising=False)
    (tmp_path / 'cache').mkdir()
    return tmp_path / 'cache'


def test_the_model_index_package_reads_it(monkeypatch):
    index = load(str(ROOT / 'model-index.yml'))
    assert index.check(silent=True) == []
    assert [model.name for model in index.models] == list(entries())
    (one,) = [model for model in index.models if model.name == TINY]
    assert one.results[0].metrics == {'Position Accuracy': 14.52}
    assert one.full_model.paper['URL'].startswith('https://arxiv.org/')
    # and MMPretrain's hub, for its own get_model
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    ModelHub.register_model_index(ROOT / 'model-index.yml', config_prefix=ROOT)
    assert Path(ModelHub._models_dict[TINY].config).is_file()


def test_all_configs_of_pre_training_are_in_it():
    configs = {p.stem: p for p in (ROOT / 'configs').glob('[!_]*/*.py')}
    named = {e.name: e.config for e in entries().values() if e.config}
    assert named.keys() == configs.keys()
    assert all(path.samefile(configs[name]) for name, path in named.items())


def test_a_wheel_has_the_configs(monkeypatch):
    monkeypatch.chdir(ROOT)
    distribution = Distribution()
    distribution.parse_config_files(['setup.cfg'])
    build = distribution.get_command_obj('build_py')
    build.ensure_finalized()
    packed = {
        os.path.join(source, file)
        for _, source, _, files in build.data_files
        for file in files
    }
    wanted = [p for p in ROOT.glob('configs/**/*') if p.suffix in ('.py', '.yml')]
    assert {f'mmpospretrain/.mim/{p.relative_to(ROOT)}' for p in wanted} <= packed
    assert 'mmpospretrain/.mim/model-index.yml' in packed
    assert (MIM / 'configs').samefile(ROOT / 'configs')


@pytest.mark.parametrize('path', metafiles(), ids=lambda path: path.parent.name)
def test_metafiles_are_as_the_tools_write_them(path):
    """So that publishing changes one entry, and not the file."""
    assert dump_metafile(read_metafile(path)) == path.read_text(encoding='utf-8')


def test_numbers_are_those_of_the_readmes():
    for entry in entries().values():
        if entry.config:
            folder = entry.config.parent
            texts = [entry.config, folder / 'README.md', folder / '../stop/README.md']
            text = ''.join(path.read_text(encoding='utf-8') for path in texts)
            numbers = [
                f'{number:g}'
                for result in entry.results
                for number in result.metrics.values()
                # of the transfer of DropPos, only the zoo tells
                if (entry.name, bool(result.seeds)) != (TINY, True)
            ]
            assert [n for n in numbers if n not in text] == [], entry.name


def test_epochs_and_batches_are_those_of_the_configs():
    for entry in entries().values():
        if entry.config:
            cfg = Config.fromfile(entry.config)
            gpus = int(re.search(r'_(\d+)xb\d+-|$', entry.name)[1] or 1)
            batch = cfg.train_dataloader.batch_size * gpus
            said = (entry.training['Epochs'], entry.training['Batch Size'])
            assert said == (cfg.train_cfg.max_epochs, batch), entry.name


def test_weights_of_others():
    formats = {family.name for family in FAMILIES}
    others = [entry for entry in entries().values() if '3rdparty' in entry.name]
    assert others
    for entry in others:
        assert bool(entry.urls) != bool(entry.by_hand), entry.name
        assert all(url.startswith('https://') for url in entry.urls)
        assert entry.licence
        assert entry.format in formats
        assert not entry.measured
    filenames = [e.filename for e in entries().values() if e.filename]
    assert len({*filenames}) == len(filenames)


def test_list_and_find():
    assert list_models('stop_vit-tiny') == ['stop_vit-tiny-p16_photoshapes']
    assert list_models('*3rdparty-800e') == [
        'droppos_vit-base-p16_3rdparty-800e_in1k',
        'droppos_vit-large-p16_3rdparty-800e_in1k',
    ]
    assert list_models() == sorted(entries())
    entry = find('posfield_vit-base-p16_8xb64-coslr-100e_in1k')
    assert (entry.method, entry.training['Batch Size']) == ('PosField', 512)
    assert entry.reported[0].metrics == {'box AP': 49.2, 'mask AP': 43.8}
    assert (entry.measured, entry.urls, entry.filename) == ((), (), None)
    with pytest.raises(ValueError, match=rf'zoo\. Did you mean {TINY} or'):
        find('dropos_vit-tiny-p16_photoshapes')
    with pytest.raises(ValueError, match=r"no model 'xyz' in the zoo\. All of them"):
        find('xyz')


def test_get_model(tmp_path):
    torch.manual_seed(0)
    model = get_model(TINY, mask_ratio=0.5, **SMALL)
    assert not model.training
    assert (type(model).__name__, model.mask_ratio) == ('DropPos', 0.5)
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    again = get_model(TINY, pretrained=path, device='cpu', **SMALL)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    weights = model.state_dict()
    del weights['pos_mask_token']
    torch.save(weights, path)
    with pytest.raises(ValueError, match='1 missing:\n    pos_mask_token'):
        get_model(TINY, pretrained=path, **SMALL)


def test_models_without_weights_or_without_a_config():
    with pytest.raises(FileNotFoundError, match=f'no weights of {TINY} are published'):
        get_model(TINY, pretrained=True)
    with pytest.raises(ValueError, match=f"checkpoint='zoo://{BY_HAND}'"):
        get_model(BY_HAND)


def test_weights_to_be_fetched_by_hand(zoo_cache):
    path = zoo_cache / f'{BY_HAND}.pth'
    with pytest.raises(FileNotFoundError, match='By hand: the pre-trained') as caught:
        fetch_entry(BY_HAND)
    assert str(path) in str(caught.value)
    torch.save({'model': {'norm.weight': torch.ones(2)}}, path)
    assert load_checkpoint_file(fetch_entry(BY_HAND))['model']


def test_config_path(tmp_path):
    assert config_path(Path('configs/a/b.py')) == 'configs/a/b.py'
    # Not of the first folder of that name.
    config = tmp_path / 'configs/checkout/configs/a/b.py'
    assert config_path(config) == 'configs/a/b.py'
    metafile = tmp_path / 'configs/checkout/configs/c/metafile.yml'
    assert config_path(config, metafile) == 'configs/a/b.py'
    with pytest.raises(
        ValueError, match=r'b\.py is in no folder configs/, where .* copy'
    ):
        config_path(tmp_path / 'b.py')
    with pytest.raises(ValueError, match=r'configs/ that .*x/metafile\.yml is in, too'):
        config_path(config, tmp_path / 'x/metafile.yml')


@pytest.fixture
def metafile(tmp_path) -> Path:
    path = tmp_path / 'configs/one/metafile.yml'
    path.parent.mkdir(parents=True)
    path.write_text(
        'Collections: [Name: A]\nModels:\n- {Name: a, In Collection: A, Config: null}\n'
    )
    return path


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('{In Collection: A}', 'a model without a Name'),
        ('{Name: b, In Collection: B}', r"b is in collection 'B', not in one of \['A'"),
        ('{Name: b, In Collection: A, Weight: x}', r"unknown fields \['Weight'\]"),
        (
            '{Name: b, In Collection: A, Checkpoint: {SHA256: 12}}',
            'SHA256 of b is none',
        ),
        ('{Name: b', 'is no YAML'),
    ],
)
def test_a_metafile_that_is_not_valid(metafile, model, message):
    metafile.write_text(f'{metafile.read_text()}- {model}\n')
    with pytest.raises(ValueError, match=message):
        read_metafile(metafile)


def test_two_models_of_one_name(metafile, tmp_path):
    index = tmp_path / 'model-index.yml'
    index.write_text('Import: [configs/one/metafile.yml, configs/one/metafile.yml]\n')
    with pytest.raises(ValueError, match="there are two models 'a'"):
        entries(tmp_path)
    index.unlink()
    with pytest.raises(FileNotFoundError, match=r'no .*model-index\.yml: install'):
        entries(tmp_path)


def test_write_model(metafile):
    write_model(metafile, {'Name': 'a', 'Weights': 'u', 'Checkpoint': {'File': 'f'}})
    write_model(metafile, {'Name': 'a', 'Checkpoint': {'Format': 'x', 'File': 'g'}})
    write_model(metafile, {'Name': 'b', 'In Collection': 'A'})
    a, b = read_metafile(metafile)['Models']
    assert a == {
        'Name': 'a',
        'In Collection': 'A',
        'Config': None,
        'Weights': 'u',
        'Checkpoint': {'File': 'g', 'Format': 'x'},
    }
    assert b == {'Name': 'b', 'In Collection': 'A'}
    before = metafile.read_text()
    with pytest.raises(ValueError, match='collection None'):
        write_model(metafile, {'Name': 'c'})
    assert metafile.read_text() == before
    assert os.listdir(metafile.parent) == ['metafile.yml']


@pytest.mark.parametrize(
    ('field', 'values'),
    [
        (
            'Checkpoint: {File: %s}',
            [
                *('../x.pth', '/tmp/x.pth', 'a/b.pth', r"'..\x'", r"'C:\x'", "'C:x'"),
                *("''", '.', '..', '.hidden', '5', '[a.pth]', r'"a\0.pth"', r'"a\nb"'),
                *('vit.pth.sha256', 'vit.pth.lock', 'vit.part', 'vit.part.mark'),
            ],
        ),
        (
            'Config: %s',
            ['../x.py', '/x.py', 'configs/../../x.py', r"'..\x.py'", "'C:x.py'", '~/x'],
        ),
    ],
    ids=['file', 'config'],
)
def test_a_metafile_that_leaves_its_folder(metafile, field, values):
    text = metafile.read_text()
    for value in values:
        entry = field % value
        metafile.write_text(f'{text}- {{Name: b, In Collection: A, {entry}}}\n')
        with pytest.raises(
            ValueError, match=r'metafile\.yml: \w+ of b: .* names? no|no'
        ):
            read_metafile(metafile)


@pytest.mark.parametrize(
    'name', ['../x', '/x', 'a b', '.x', '[x](y)', '<b>', r'a\b', '5']
)
def test_names_are_words(metafile, name):
    number = name if name == '5' else repr(name)
    text = metafile.read_text()
    metafile.write_text(f'{text}- {{Name: {number}, In Collection: A}}\n')
    with pytest.raises(ValueError, match='no model can be called'):
        read_metafile(metafile)


@pytest.mark.parametrize('path', ['../evil.yml', '/evil.yml', '5', r"'..\evil.yml'"])
def test_an_index_that_leaves_its_folder(tmp_path, path):
    (tmp_path / 'model-index.yml').write_text(f'Import: [{path}]\n')
    with pytest.raises(ValueError, match=r'model-index\.yml: Import: .* is no path'):
        list(metafiles(tmp_path))


def test_a_metafile_runs_nothing(metafile, tmp_path):
    trace = tmp_path / 'trace'
    tag = f"!!python/object/apply:os.mkdir ['{trace}']"
    metafile.write_text(f'{metafile.read_text()}- {tag}\n')
    with pytest.raises(ValueError, match='is no YAML'):
        read_metafile(metafile)
    assert not trace.exists()
