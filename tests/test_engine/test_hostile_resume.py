"""A checkpoint that is resumed runs nothing, and deletes nothing but its own files."""

import itertools
import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.infer import BaseInferencer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from safetensors.torch import save_file
from torch import nn

import mmpospretrain.models  # noqa: F401  (puts our loaders into MMEngine)
from mmpospretrain.engine import PretrainRunner
from mmpospretrain.zoo.checkpoint_state import (
    drop_foreign_files,
    give_back,
    set_aside,
)
from mmpospretrain.zoo.loading import METADATA, load_checkpoint_file
from mmpospretrain.zoo.trained_config import model_options

NUMBERS = itertools.count()  # MMEngine tells experiments apart by their names


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode):
        if mode == 'loss':
            return {'loss': self.layer(torch.ones(1, 1)).sum()}
        return [torch.ones(1)]


class Better(BaseMetric):
    """Rises above what any checkpoint of these tests calls its best."""

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return {'one': 2.0, 'two': 2.0}


@pytest.fixture(params=[Runner, PretrainRunner])
def runner(request, tmp_path):
    """Build a training of two epochs with a best checkpoint."""

    def build(resume=None, save_best='one', **checkpoint_hook):
        loader = dict(
            dataset=[dict(inputs=torch.ones(1))] * 2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=1,
            num_workers=0,
        )
        hook = dict(
            type='CheckpointHook',
            save_best=save_best,
            rule='greater',
            **checkpoint_hook,
        )
        return request.param(
            model=Toy(),
            work_dir=str(tmp_path / 'work'),
            train_dataloader=loader,
            val_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_cfg=dict(),
            val_evaluator=[Better()],
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=hook),
            load_from=resume and str(resume),
            resume=bool(resume),
            experiment_name=f'{tmp_path.name}-{next(NUMBERS)}',
        )

    return build


def saved(meta=None, info=None, **changes) -> dict:
    """As after the first of two epochs."""
    resumed = dict.fromkeys(info or (), True)
    hub = dict(log_scalars={}, runtime_info=info or {}, resumed_keys=resumed)
    return {
        'state_dict': Toy().state_dict(),
        'meta': {'epoch': 1, 'iter': 2, 'seed': 0, **(meta or {})},
        'message_hub': hub,
        **changes,
    }


@pytest.fixture
def write(tmp_path):
    def to_file(content):
        path = tmp_path / 'elsewhere' / 'epoch_1.pth'
        path.parent.mkdir(exist_ok=True)
        torch.save(content, path)
        return path

    return to_file


@pytest.fixture
def trace(tmp_path) -> Path:
    return tmp_path / 'trace'


def attacks(trace: Path) -> dict[str, str]:
    """Texts that leave a trace where MMEngine runs them."""
    mark = f'__import__("pathlib").Path({str(trace)!r}).mkdir(exist_ok=True)'
    return {
        'statement': mark,
        'base': f'_base_ = [{mark}][:0]\nmodel = dict(a=1)',
        'default': f'model = dict(a=1, b={mark})',
        'template': f"model = dict(a='{{{{$NO:',b={mark.replace(' ', '')},c='}}}}')",
    }


@pytest.mark.parametrize('attack', attacks(Path()))
def test_a_config_in_the_meta_is_not_run(runner, write, trace, attack):
    text = attacks(trace)[attack]
    runner(write(saved({'config': text, 'cfg': text}))).train()
    assert not trace.exists()


@pytest.mark.parametrize('attack', attacks(Path()))
def test_a_config_in_safetensors_is_not_run(runner, tmp_path, trace, attack):
    path = tmp_path / 'published.safetensors'
    meta = {'epoch': 1, 'iter': 2, 'config': attacks(trace)[attack]}
    save_file(Toy().state_dict(), path, {METADATA: json.dumps(meta)})
    with pytest.raises((KeyError, ValueError), match=r'message_hub|how far'):
        runner(path).train()
    assert not trace.exists()


def test_a_config_is_no_model_for_an_inferencer(write, trace):
    """Even plain values run anything: the name of a function is a type of MMEngine."""
    text = f"model = dict(type='os.mkdir', path={str(trace)!r})"

    class Inferencer(BaseInferencer):
        def __init__(self):
            pass

        def _init_pipeline(self, cfg):
            pass

        def visualize(self, *args, **kwargs):
            pass

        def postprocess(self, *args, **kwargs):
            pass

    for content in (saved({'cfg': text}), saved({'cfg': text}, {'cfg': text})):
        with pytest.raises(ValueError, match='Cannot find the config'):
            Inferencer()._init_model(ConfigDict(), str(write(content)))
    assert not trace.exists()


def test_the_config_stays_readable(write):
    content = saved({'cfg': 'model = dict(a=1)', 'config': 'gpu_ids = [0, 1]\nf()'})
    assert model_options(load_checkpoint_file(write(content))) == {'a': 1}
    set_aside(content)
    assert model_options(content) == {'a': 1}
    assert content['meta']['config'] == 'gpu_ids = [0, 1]'


@pytest.mark.parametrize('config', ['[' * 10_000, 'gpu_ids = f()', 'gpu_ids = [[]]', 5])
def test_an_unreadable_config_is_left_out(config):
    content = saved({'config': config, 'cfg': '(' * 10_000})
    set_aside(content)
    assert content['meta']['config'] == ''
    assert model_options(content) == {}


def test_what_was_set_aside_is_never_from_the_file(tmp_path):
    victim = tmp_path / 'best_photo.jpg'
    victim.touch()
    aside = {'cfg': 'exploit()', 'files': {'best_ckpt': victim.name}}
    content = saved(set_aside=aside)
    set_aside(content)
    give_back(content)
    drop_foreign_files(content, tmp_path)
    assert 'cfg' not in content['meta']
    assert content['message_hub']['runtime_info'] == {}


@pytest.mark.parametrize('name', ['best_' * 100, 'best_\0', '..', '', 'best_/x', 5])
def test_impossible_names_are_no_files(tmp_path, name):
    content = saved(info={'best_ckpt': name, 'last_ckpt': name})
    set_aside(content)
    give_back(content)
    drop_foreign_files(content, tmp_path)
    assert content['message_hub']['runtime_info'] == {}


def test_the_config_is_back_where_it_is_not_run(tmp_path):
    content = saved({'cfg': 'a = 1'}, {'cfg': 'a = 1', 'last_ckpt': '/x/epoch_1.pth'})
    (tmp_path / 'epoch_1.pth').touch()
    set_aside(content)
    give_back(content)
    drop_foreign_files(content, tmp_path)
    assert content['meta']['cfg'] == 'a = 1'
    last = {'last_ckpt': str(tmp_path / 'epoch_1.pth')}
    assert content['message_hub']['runtime_info'] == last
    assert 'set_aside' not in content


@pytest.mark.parametrize('meta', [Namespace(config='f()'), ['config'], 'config', 5])
def test_a_meta_that_is_no_dict_goes(meta):
    content = saved() | {'meta': meta}
    set_aside(content)
    assert 'meta' not in content


def test_a_weight_called_meta_stays():
    content = {'meta': torch.ones(1)}
    set_aside(content)
    assert content == {'meta': torch.ones(1)}


def test_another_number_of_gpus_is_still_told(runner, write):
    path = write(saved({'config': 'gpu_ids = [0, 1, 2]'}))
    training = runner(path)
    if isinstance(training, PretrainRunner):  # whose learning rate may follow it
        training.train()
        log = next(Path(training.log_dir).glob('*.log')).read_text()
        assert 'the number of processes was 3, is 1' in log
        return
    with pytest.raises(RuntimeError, match='Number of GPUs'):
        training.train()


@pytest.mark.parametrize('keys', [['best_ckpt'], ['best_ckpt_one', 'best_ckpt_two']])
@pytest.mark.parametrize('name', ['photo.jpg', 'best_one_epoch_9.pth', 'folder'])
def test_no_file_outside_is_removed(runner, write, tmp_path, monkeypatch, keys, name):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / name
    (victim / 'inside').mkdir(parents=True) if name == 'folder' else victim.touch()
    for path in (str(victim), name, f'work/../{name}'):
        save_best = 'one' if len(keys) == 1 else ['one', 'two']
        info = dict.fromkeys([*keys, 'last_ckpt'], path)
        runner(write(saved(info=info)), save_best).train()
        assert victim.exists()


@pytest.mark.parametrize('name', ['epoch_7.pth', 'vis_data', '../elsewhere'])
def test_nothing_else_in_the_work_dir_is_removed(runner, write, tmp_path, name):
    path = write(saved(info={'best_ckpt': str(tmp_path / 'work' / name)}))
    victim = tmp_path / 'work' / name
    if victim.suffix:
        victim.parent.mkdir()
        victim.touch()
    else:
        victim.mkdir(parents=True, exist_ok=True)
    runner(path).train()
    assert victim.exists()


def test_the_old_best_of_the_work_dir_goes(write, tmp_path, runner):
    old = tmp_path / 'work' / 'best_one_epoch_1.pth'
    old.parent.mkdir()
    old.touch()
    path = write(saved(info={'best_ckpt': f'/moved/work/{old.name}'}))
    training = runner(path.rename(old.with_name(path.name)))
    training.train()
    # MMEngine's own runner takes no path from a file, and keeps it.
    assert old.exists() is not isinstance(training, PretrainRunner)
    assert old.with_name('best_one_epoch_2.pth').exists()


def test_a_message_hub_that_is_no_dict(runner, write, tmp_path):
    victim = tmp_path / 'photo.jpg'
    victim.touch()
    hub = Namespace(
        _log_scalars={}, _runtime_info={'best_ckpt': str(victim)}, _resumed_keys={}
    )
    with pytest.raises((KeyError, ValueError), match=r'message_hub|how far'):
        runner(write(saved(message_hub=hub))).train()
    assert victim.exists()


@pytest.mark.parametrize('step', ['../photo', '../work/../photo', -1, True, 1.5])
def test_numbers_of_checkpoints_are_numbers(runner, write, tmp_path, step):
    victim = tmp_path / 'photo.pth'
    victim.touch()
    path = write(saved(info={'keep_ckpt_ids': [step, step, step]}))
    runner(path, max_keep_ckpts=1, filename_tmpl='{}.pth').train()
    assert victim.exists()


def test_numbers_of_checkpoints_are_kept():
    content = saved(info={'keep_ckpt_ids': [1, 2]})
    set_aside(content)
    assert content == saved(
        info={'keep_ckpt_ids': [1, 2]}, state_dict=content['state_dict']
    )
