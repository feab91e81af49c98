"""Whole trainings: resume, accumulation, several processes, learning rate, errors."""

import json
from pathlib import Path

import pytest
import torch
from trainings import assert_same, assert_same_model, run_worker, train

from mmpospretrain.engine import PretrainRunner
from mmpospretrain.models import DropPos
from mmpospretrain.zoo.loading import load_checkpoint_file

WORKER = Path(__file__).with_name('fixed_masks.py')


@pytest.mark.parametrize('num_workers', [0, 2])
def test_resume_equals_no_interruption(tiny_config, tmp_path, monkeypatch, num_workers):
    masks = []
    draw_masks = DropPos.draw_masks

    def spy(self, *args, **kwargs):
        drawn = draw_masks(self, *args, **kwargs)
        if self.training:
            masks.append(drawn)
        return drawn

    monkeypatch.setattr(DropPos, 'draw_masks', spy)
    options = {
        'train_cfg.max_epochs': 4,
        'param_scheduler.1.end': 4,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'train_dataloader.num_workers': num_workers,
        'model.temperature': 0.1,
        'model.backbone.drop_path_rate': 0.1,
    }
    train(tiny_config(**options, work_dir=str(tmp_path / 'whole')))
    whole_masks = masks.copy()
    assert len(whole_masks) == 4 * 6  # 24 images / batch 4
    orders = [m.order for m in whole_masks]
    assert not any(torch.equal(orders[0], o) for o in orders[1:])

    masks.clear()
    train(
        tiny_config(
            **options,
            work_dir=str(tmp_path / 'resumed'),
            load_from=str(tmp_path / 'whole/epoch_2.pth'),
            resume=True,
        )
    )
    assert_same(masks, whole_masks[12:])
    whole, resumed = (
        load_checkpoint_file(tmp_path / run / 'epoch_4.pth')
        for run in ('whole', 'resumed')
    )
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(whole[part], resumed[part], part)
    for checkpoint in (whole, resumed):
        history, _ = checkpoint['message_hub']['log_scalars']['train/sigma'].data
        assert list(history) == pytest.approx([1 - step / 24 for step in range(24)])


BIG_BATCH = {'train_dataloader.batch_size': 8}


@pytest.fixture
def comparable(tiny_config):
    """Two epochs without random crops; batch 4 unless told otherwise."""

    def build(**options):
        cfg = tiny_config(
            **{'train_cfg.max_epochs': 2, 'param_scheduler.1.end': 2, **options}
        )
        cfg.train_dataloader.dataset.pipeline = cfg.val_pipeline
        # Adam would blow up the rounding of gradients that are zero, as those of key
        # biases are.
        cfg.optim_wrapper.optimizer = dict(
            type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01
        )
        return cfg

    return build


def test_two_processes_equal_one(comparable, tmp_path):
    """The same global batches, hence the same losses and weights."""
    # With affinity the patches weigh differently, so the mean must be a global one.
    options = {'model.temperature': 0.1}
    one = run_worker(
        WORKER, comparable(**options, **BIG_BATCH), tmp_path / 'one.pth', 1
    )
    two = run_worker(WORKER, comparable(**options), tmp_path / 'two.pth', 2)
    assert len(one['loss']) == 2 * 3
    torch.testing.assert_close(two['loss'], one['loss'], rtol=1e-5, atol=1e-6)
    assert_same_model(one, two)


def test_accumulation_equals_one_big_batch(comparable, tmp_path):
    configs = {
        'one': comparable(**BIG_BATCH),
        'many': comparable(**{'optim_wrapper.accumulative_counts': 2}),
    }
    runs = {}
    for name, cfg in configs.items():
        cfg.param_scheduler = []  # MMEngine moves these with every forward pass
        runs[name] = run_worker(WORKER, cfg, tmp_path / f'{name}.pth', 1)
    assert runs['one']['lr'] == runs['many']['lr'] == pytest.approx(0.1 * 8 / 32)
    assert len(runs['many']['loss']) == 2 * len(runs['one']['loss'])
    assert_same_model(runs['one'], runs['many'])


SUM = 'global batch 12 (= 4 per process x 1 processes x 3 accumulated) / 256'


@pytest.mark.parametrize(
    ('options', 'expected', 'line'),
    [
        ({}, 1.5e-4 * 12 / 256, f'{SUM} = 7.031e-06 (linear rule)'),
        (
            dict(rule='linear'),
            1.5e-4 * 12 / 256,
            f'{SUM} = 7.031e-06 (linear rule)',
        ),
        (
            dict(rule='sqrt'),
            1.5e-4 * (12 / 256) ** 0.5,
            f'sqrt({SUM}) = 3.248e-05 (sqrt rule)',
        ),
    ],
)
def test_learning_rate_follows_the_global_batch(tiny_config, options, expected, line):
    cfg = tiny_config(**{'optim_wrapper.accumulative_counts': 3})
    cfg.optim_wrapper.optimizer.lr = 1.5e-4
    cfg.auto_scale_lr.update(base_batch_size=256, **options)
    runner = PretrainRunner.from_cfg(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    for group in runner.optim_wrapper.param_groups:
        assert group['lr'] == pytest.approx(expected)
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert f'Learning rate: 1.500e-04 per 256 images x {line}' in log


def test_an_unknown_rule(tiny_config):
    message = "auto_scale_lr.rule: must be one of 'linear', 'sqrt', got 'root'"
    with pytest.raises(ValueError, match=message):
        train(tiny_config(**{'auto_scale_lr.rule': 'root'}))


def test_log_shows_what_a_user_looks_for(tiny_config, tmp_path):
    options = {
        'train_cfg.max_epochs': 1,
        'param_scheduler.1.end': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.logger.interval': 2,
    }
    runner = train(tiny_config(**options))
    lines = next(Path(runner.log_dir).glob('vis_data/scalars.json')).read_text()
    first, *_, last = map(json.loads, lines.splitlines())
    shown = {'loss', 'position_acc', 'sigma', 'lr', 'images_per_s', 'memory', 'time'}
    assert shown <= first.keys()
    assert 0 <= last['position/top1'] <= 100
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'eta: ' in text


def test_work_dir_that_cannot_be_written(tiny_config, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match=r"work dir '.*/file/work'.*--work-dir"):
        PretrainRunner.from_cfg(tiny_config(work_dir=str(tmp_path / 'file/work')))


def test_a_warmup_shorter_than_an_iteration(tiny_config):
    """0.7 epochs of one iteration are none."""
    with pytest.raises(ValueError, match=r'with 1 iterations in an epoch .*later end'):
        train(tiny_config(**{'train_dataloader.batch_size': 24}))


def test_fewer_images_than_a_batch(tiny_config):
    with pytest.raises(ValueError, match='24 images make no batch of 32'):
        train(tiny_config(**{'train_dataloader.batch_size': 32}))


def test_compile(tiny_config):
    """`torch.compile` by one option; the schedule of σ does not recompile."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    options = {
        'train_cfg.max_epochs': 1,
        'param_scheduler.1.end': 1,
        'model.temperature': 0.1,
    }
    cfg = tiny_config(**options)
    cfg.compile = dict(backend='aot_eager')
    train(cfg)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] < 40
