"""A teacher and its schedules; that of I-JEPA in whole trainings."""

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from torch import nn
from trainings import assert_same, assert_same_model, run_worker, train

from mmpospretrain.engine.hooks import TeacherHook, WeightDecayScheduleHook
from mmpospretrain.models import IJEPA
from mmpospretrain.zoo.loading import load_checkpoint_file

WORKER = Path(__file__).with_name('fixed_blocks.py')
BIG_BATCH = {'train_dataloader.batch_size': 8}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = nn.Linear(2, 1)
        self.teacher = nn.Linear(2, 1).requires_grad_(False)


@pytest.fixture
def runner(tmp_path):
    """A stub with a real optimizer; ``step`` takes an iteration."""
    model = Model()
    optimizer = torch.optim.AdamW(
        [
            dict(params=[model.student.weight]),
            dict(params=[model.student.bias], weight_decay=0.01),
        ],
        lr=0.1,
        weight_decay=0.04,
    )
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=OptimWrapper(optimizer),
        iter=0,
        max_iters=4,
        message_hub=MessageHub.get_instance(str(tmp_path)),
        logger=MMLogger.get_instance(str(tmp_path)),
    )

    def step(*hooks):
        for hook in hooks:
            hook.before_train_iter(runner, 0)
        loss = model.student(torch.ones(1, 2)).sum()
        runner.optim_wrapper.update_params(loss)
        runner.iter += 1

    runner.step = step
    return runner


def test_the_teacher_follows_by_the_momentum_that_it_keeps(runner):
    hook = TeacherHook('teacher', 'student', start=0.5, end=1.0)
    hook.before_train(runner)
    teacher = runner.model.teacher.weight.double().clone()
    for iteration in range(4):
        runner.step(hook)
        m = 0.5 + 0.5 * iteration / 4
        teacher = m * teacher + (1 - m) * runner.model.student.weight.detach().double()
        torch.testing.assert_close(runner.model.teacher.weight.double(), teacher)
    hook.after_train(runner)
    before = runner.model.teacher.weight.clone()
    runner.step()
    assert torch.equal(runner.model.teacher.weight, before)


def test_several_teachers_follow_their_own_students(runner):
    """By the names of parameters, whatever the order they were made in."""
    runner.model.heads = nn.ModuleDict(dict(a=nn.Linear(2, 2), b=nn.Linear(2, 2)))
    copies = dict(b=nn.Linear(2, 2), a=nn.Linear(2, 2))
    runner.model.target_heads = nn.ModuleDict(copies).requires_grad_(False)
    hook = TeacherHook(
        ['teacher', 'target_heads'], ['student', 'heads'], start=0.75, end=0.75
    )
    hook.before_train(runner)
    pairs = [
        (runner.model.student, runner.model.teacher),
        (runner.model.heads['a'], runner.model.target_heads['a']),
        (runner.model.heads['b'], runner.model.target_heads['b']),
    ]
    before = [teacher.weight.clone() for _, teacher in pairs]
    runner.step(hook)
    for (student, teacher), weight in zip(pairs, before, strict=True):
        expected = 0.75 * weight + 0.25 * student.weight
        torch.testing.assert_close(teacher.weight, expected)


def test_no_step_no_teacher(runner):
    """Iterations that only accumulate gradients leave the teacher alone."""
    runner.optim_wrapper._accumulative_counts = 2
    runner.optim_wrapper.initialize_count_status(runner.model, 0, 4)
    hook = TeacherHook('teacher', 'student', start=0.5, end=1.0)
    hook.before_train(runner)
    momenta, moved = [], []
    for _ in range(4):
        before = runner.model.teacher.weight.clone()
        runner.step(hook)
        momenta.append(hook.momentum)
        moved.append(not torch.equal(runner.model.teacher.weight, before))
    assert moved == [False, True, False, True]
    assert momenta == [0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize('fused', [False, True])
def test_a_gradient_scaler_skips_the_teacher(fused):
    """Fused optimizers are called even for a step that mixed precision skips."""
    model = Model()
    optimizer = torch.optim.AdamW(model.student.parameters(), lr=0.1, fused=fused)
    hook = TeacherHook('teacher', 'student', start=0.5, end=0.5)
    hook.before_train(
        SimpleNamespace(model=model, optim_wrapper=SimpleNamespace(optimizer=optimizer))
    )
    hook.momentum = 0.5
    scaler = torch.amp.GradScaler('cpu')
    moved = []
    for value in (math.inf, 1.0):
        before = model.teacher.weight.clone()
        optimizer.zero_grad()
        scaler.scale(model.student(torch.full((1, 2), value)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        moved.append(not torch.equal(model.teacher.weight, before))
    assert moved == [False, True]
    assert torch.isfinite(model.teacher.weight).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(start=1.1), r'start must lie in \[0, 1\], got 1.1'),
        (dict(end=-0.1), r'end must lie in \[0, 1\], got -0.1'),
        (dict(teacher='teachr'), "TeacherHook: Model has no 'teachr'"),
        (
            dict(student='other'),
            r'teacher and other do not have the same parameters; only one has '
            r'bias \(1,\), weight \(1, 2\), weight \(1, 3\)$',
        ),
        (
            dict(teacher=['teacher', 'teacher'], student=['student', 'other']),
            'TeacherHook: teacher and other do not have the same',
        ),
        (
            dict(teacher=['teacher', 'other']),
            r"of its own, got teacher=\['teacher', 'other'\] and student='student'",
        ),
        (dict(teacher=[], student=[]), r'got teacher=\[\] and student=\[\]'),
    ],
)
def test_teacher_errors(runner, options, message):
    runner.model.other = nn.Linear(3, 1, bias=False)
    paths = dict(teacher='teacher', student='student')
    with pytest.raises(ValueError, match=message):
        TeacherHook(**{**paths, **options}).before_train(runner)


def test_weight_decay_keeps_its_multipliers(runner):
    hook = WeightDecayScheduleHook(start=0.04, end=0.4, shape='cosine')
    hook.before_run(runner)
    groups = runner.optim_wrapper.optimizer.param_groups
    for iteration in (0, 1, 3):
        runner.iter = iteration
        hook.before_train_iter(runner, 0)
        value = 0.04 + 0.36 * (1 - math.cos(math.pi * iteration / 4)) / 2
        assert [group['weight_decay'] for group in groups] == pytest.approx(
            [value, value / 4]
        )
    logged = runner.message_hub.get_scalar('train/weight_decay').current()
    assert logged == pytest.approx(value)


def test_weight_decay_outside_of_training(runner):
    """`Runner.test` calls the hook too, with an optimizer that is not built."""
    hook = WeightDecayScheduleHook(start=0.04, end=0.4)
    for optim_wrapper in (None, dict(type='OptimWrapper')):
        runner.optim_wrapper = optim_wrapper
        hook.before_run(runner)
    assert not hasattr(hook, '_multipliers')


def test_weight_decay_of_nothing(runner):
    runner.optim_wrapper.optimizer.defaults['weight_decay'] = 0.0
    with pytest.raises(ValueError, match=r'AdamW is 0.0.*optimizer.weight_decay=0.04'):
        WeightDecayScheduleHook(start=0.04, end=0.4).before_run(runner)


@pytest.fixture
def comparable(tiny_ijepa):
    """Two epochs without random crops; batch 4 unless told otherwise."""

    def build(**options):
        cfg = tiny_ijepa(
            **{
                'train_cfg.max_epochs': 2,
                'custom_hooks.0.start': 0.8,  # so that the teacher moves
                **options,
            }
        )
        cfg.train_dataloader.dataset.pipeline = cfg.val_pipeline
        # Adam would blow up the rounding of gradients that are zero.
        cfg.optim_wrapper.optimizer = dict(
            type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01
        )
        cfg.param_scheduler = []  # MMEngine moves these with every forward pass
        return cfg

    return build


@pytest.fixture(scope='module')
def one_process():
    """Result of the run that others are compared to."""
    return {}


def reference(one_process, comparable, tmp_path):
    if not one_process:
        out = tmp_path / 'one.pth'
        one_process.update(run_worker(WORKER, comparable(**BIG_BATCH), out, 1))
    return one_process


def test_two_processes_equal_one(one_process, comparable, knn, tmp_path):
    one = reference(one_process, comparable, tmp_path)
    cfg = comparable()
    cfg.custom_hooks.append(knn)  # one process measures, on all images
    two = run_worker(WORKER, cfg, tmp_path / 'two.pth', 2)
    text = ''.join(log.read_text() for log in Path(cfg.work_dir).glob('*/*.log'))
    assert text.count('of 6 images by 3 neighbours of 24') == 2
    assert len(one['loss']) == 2 * 3
    torch.testing.assert_close(two['loss'], one['loss'], rtol=1e-5, atol=1e-6)
    assert_same_model(one, two)
    weights = one['state_dict']
    assert not torch.equal(
        weights['target_encoder.ln1.weight'], weights['backbone.ln1.weight']
    )


def test_accumulation_equals_one_big_batch(one_process, comparable, tmp_path):
    """The teacher, its momentum and the weight decay move with optimizer steps."""
    one = reference(one_process, comparable, tmp_path)
    cfg = comparable(**{'optim_wrapper.accumulative_counts': 2})
    many = run_worker(WORKER, cfg, tmp_path / 'many.pth', 1)
    assert len(many['loss']) == 2 * len(one['loss'])
    assert_same_model(one, many)


def test_resume_restores_the_teacher(tiny_ijepa, tmp_path):
    options = {
        'train_cfg.max_epochs': 4,
        'param_scheduler.1.end': 4,
        'custom_hooks.0.start': 0.8,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'model.backbone.drop_path_rate': 0.1,
    }
    train(tiny_ijepa(**options, work_dir=str(tmp_path / 'whole')))
    train(
        tiny_ijepa(
            **options,
            work_dir=str(tmp_path / 'resumed'),
            load_from=str(tmp_path / 'whole/epoch_2.pth'),
            resume=True,
        )
    )
    whole, resumed = (
        load_checkpoint_file(tmp_path / run / 'epoch_4.pth')
        for run in ('whole', 'resumed')
    )
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(whole[part], resumed[part], part)
    weights = whole['state_dict']
    assert not torch.equal(weights['target_encoder.ln1.weight'], torch.ones(32))
    decays = {group['weight_decay'] for group in whole['optimizer']['param_groups']}
    last = 0.04 + 0.36 * (1 - math.cos(math.pi * 23 / 24)) / 2
    assert sorted(decays) == pytest.approx([0.0, last])


def test_log_and_knn(tiny_ijepa, knn):
    """All that tells whether it learns."""
    cfg = tiny_ijepa(
        **{
            'train_cfg.max_epochs': 1,
            'param_scheduler.1.end': 1,
            'default_hooks.logger.interval': 2,
        }
    )
    cfg.custom_hooks.append(knn)
    runner = train(cfg)
    lines = next(Path(runner.log_dir).glob('vis_data/scalars.json')).read_text()
    first, *_, last = map(json.loads, lines.splitlines())
    shown = {'loss', 'target_std', 'teacher_momentum', 'weight_decay', 'images_per_s'}
    assert shown <= first.keys()
    assert first['teacher_momentum'] == pytest.approx(0.996 + 0.004 * 1 / 6)
    assert 0 <= last['knn/top1'] <= 100
    assert last['step'] == 1
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'of 6 images by 3 neighbours of 24' in text
    assert 'is skipped since its requires_grad' not in text
    assert 'not trained: backbone (1), neck (1), target_encoder (29)' in text


def test_a_teacher_blind_to_content_is_told(tiny_ijepa, monkeypatch):
    """Its features differ from place to place all the same."""

    def init_weights(model: IJEPA) -> None:
        super(IJEPA, model).init_weights()
        nn.init.zeros_(model.target_encoder.patch_embed.projection.weight)

    monkeypatch.setattr(IJEPA, 'init_weights', init_weights)
    runner = train(
        tiny_ijepa(**{'train_cfg.max_epochs': 1, 'param_scheduler.1.end': 1})
    )
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    told = r'Collapse\? target_std is .* at iteration 1, below 0.1: .* images apart'
    assert re.search(told, text)
