"""DINOv2 and PosField in training: processes, accumulation, and whole trainings."""

import json
import math
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, distributed, nn
from trainings import assert_same, train

from mmpospretrain.engine import PretrainRunner
from mmpospretrain.engine.hooks import TeacherHook
from mmpospretrain.models import PosField
from mmpospretrain.zoo.loading import load_checkpoint_file

CONFIGS = Path(__file__).parents[2] / 'configs/posfield'
HEADS = ('cls', 'content', 'position')
BATCH, VIEWS = 8, (2, 4)


@pytest.fixture
def tiny_posfield(shrink):
    """PosField, small; takes cfg-options."""

    def build(**options) -> Config:
        sizes = {
            'model.head.num_prototypes': 32,
            'model.head.hidden_dims': 24,
            'model.head.bottleneck_dims': 8,
            'model.backbone.field_size': 10,
        }
        path = CONFIGS / 'posfield_vit-tiny-p16_photoshapes.py'
        return shrink(path, {**sizes, **options})

    return build


def make_batch(generator: torch.Generator) -> tuple[list[Tensor], list[DataSample]]:
    """Views of noise (V, B, C, H, W), and samples that know where they are from."""
    # A colour for each image, and a seed by trial: where two neighbours are as near as
    # each other, rounding decides which of them KoLeo is about. Here they differ by
    # 2e-4 or more.
    colour = 255 * torch.rand(BATCH, 3, 1, 1, generator=generator)
    views = [
        colour * torch.rand(count, BATCH, 3, size, size, generator=generator)
        for count, size in zip(VIEWS, (96, 48), strict=True)
    ]
    corners = 0.5 * torch.rand(BATCH, sum(VIEWS), 2, generator=generator)
    samples = [DataSample() for _ in range(BATCH)]
    for sample, corner in zip(samples, corners, strict=True):
        sample.set_field(torch.cat((corner, corner + 0.4), 1).numpy(), 'view_boxes')
        sample.set_field(corner[:, 0].numpy() < 0.25, 'view_flipped')
    return views, samples


def take_steps(cfg: dict, parts: list[slice], parallel: bool = False) -> dict:
    """Three optimizer steps, each on a batch in parts of it, with its teacher's.

    All that is random follows from the batch, so that parts of it together are the
    whole. Losses are means over parts and processes.
    """
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    # At first, features of images are nearly the same, and the gradient of KoLeo, which
    # is over the distances between them, would blow up rounding.
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    # Plain descent: Adam would blow up the rounding of gradients that are zero.
    weights = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(
        torch.optim.SGD(weights, lr=0.1), accumulative_counts=len(parts)
    )
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        iter=0,
        max_iters=3 * len(parts),
        message_hub=MessageHub.get_instance('self-distillation'),
    )
    hook = TeacherHook(
        ['target_encoder', 'target_heads'], ['backbone', 'heads'], start=0.5, end=0.9
    )
    hook.before_train(runner)
    trained = model
    if parallel:
        # As in training: a parameter without a gradient would be an error.
        trained = MMDistributedDataParallel(module=model, broadcast_buffers=False)
    wrapper.initialize_count_status(trained, 0, runner.max_iters)
    logs = []
    for step in range(3):
        generator = torch.Generator().manual_seed(40 + step)
        views, samples = make_batch(generator)
        masks = PosField.draw_masks(model, VIEWS[0] * BATCH, (6, 6), generator)
        masks = {kind: mask.unflatten(0, (-1, BATCH)) for kind, mask in masks.items()}
        for part in parts:
            mine = {kind: x[:, part].flatten(0, 1) for kind, x in masks.items()}
            model.draw_masks = lambda *_, mine=mine: mine
            batch = dict(
                inputs=[x[:, part].flatten(0, 1) for x in views],
                data_samples=samples[part],
            )
            hook.before_train_iter(runner, runner.iter)
            logs.append(trained.train_step(batch, wrapper))
            runner.iter += 1
    losses = {}
    for name in ('loss_image', 'loss_content', 'loss_position', 'loss_koleo', 'loss'):
        values = torch.stack([log[name].detach() for log in logs])
        values = values.view(3, -1).mean(1)
        if parallel:
            all_reduce(values, op='mean')
        losses[name] = values
    state = {**losses, **model.state_dict()}
    return {name: value.numpy().copy() for name, value in state.items()}


def work(rank: int, cfg: dict, folder: str, connection: Connection) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    half = slice(4 * rank, 4 * rank + 4)
    connection.send(take_steps(cfg, [half], parallel=True))
    distributed.destroy_process_group()


def assert_close(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-4, atol=1e-6, err_msg=name
        )


def comparable(tiny_posfield, method: str, **options) -> dict:
    """Views stay where they are: each image would be moved by chance."""
    cfg = tiny_posfield(**{'model.scales': 'constant', **options}).model
    return {**cfg, 'targets': dict(cfg.targets, method=method)}


@pytest.mark.parametrize('method', ['sinkhorn', 'centering'])
def test_two_processes_equal_one(tiny_posfield, tmp_path, method):
    """Losses, weights, teacher and centers, with as many masked in one as in both."""
    cfg = comparable(tiny_posfield, method)
    context = get_context('fork')
    pipes = [context.Pipe() for _ in range(2)]
    processes = [
        context.Process(target=work, args=(rank, cfg, str(tmp_path), pipe[1]))
        for rank, pipe in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()  # so that the end of a process is the end of its pipe
    halves = [pipe[0].recv() if pipe[0].poll(60) else None for pipe in pipes]
    for process in processes:
        process.join(10)
        process.kill()
    whole = take_steps(cfg, [slice(0, BATCH)])
    if method == 'centering':
        for kind in HEADS:
            assert np.abs(whole[f'targets.{kind}.center.center']).max() > 1e-3
    for half in halves:
        assert half is not None
        assert_close(half, whole)


def test_accumulation_equals_one_big_batch(tiny_posfield):
    """The teacher and its centers move with optimizer steps.

    Of what sees a batch at once, Sinkhorn-Knopp and KoLeo, this cannot be true.
    """
    cfg = comparable(tiny_posfield, 'centering', **{'model.koleo_weight': 0.0})
    whole = take_steps(cfg, [slice(0, BATCH)])
    parts = take_steps(cfg, [slice(0, 4), slice(4, BATCH)])
    assert_close(parts, whole)


class Recorder(Hook):
    """The model before and after every iteration."""

    def __init__(self) -> None:
        self.states = []

    def before_train(self, runner) -> None:
        self.after_train_iter(runner)

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        state = runner.model.state_dict()
        self.states.append({name: value.clone() for name, value in state.items()})


@pytest.fixture
def two_epochs(tiny_posfield):
    """Of six iterations each, with all that is random."""

    def build(**options) -> Config:
        return tiny_posfield(
            **{
                'train_cfg.max_epochs': 2,
                'param_scheduler.1.end': 2,
                'model.backbone.drop_path_rate': 0.1,
                'default_hooks.logger.interval': 2,
                'default_hooks.checkpoint.max_keep_ckpts': -1,
                **options,
            }
        )

    return build


def test_a_training(two_epochs):
    """Prototypes learn from the second epoch on, the teacher follows, all is logged."""
    runner = PretrainRunner.from_cfg(two_epochs())
    recorder = Recorder()
    runner.register_hook(recorder, priority='LOWEST')
    runner.train()
    states = recorder.states
    assert len(states) == 1 + 2 * 6
    for kind in HEADS:
        name = f'heads.{kind}.prototypes.weight'
        for state in states[1:7]:
            assert torch.equal(state[name], states[0][name])
            assert torch.equal(state[f'target_{name}'], states[0][f'target_{name}'])
        assert not torch.equal(states[7][name], states[6][name])
    for name in ('mask_token', 'pos_mask_token', 'backbone.field.samples'):
        assert not torch.equal(states[1][name], states[0][name])

    copies = [('target_encoder.', 'backbone.'), ('target_heads.', 'heads.')]
    for step, (before, after) in enumerate(pairwise(states)):
        m = 0.992 + 0.008 * (1 - math.cos(math.pi * step / 12)) / 2
        for teacher, student in copies:
            for name in filter(lambda name: name.startswith(teacher), before):
                learnt = after[name.replace(teacher, student, 1)]
                expected = m * before[name].double() + (1 - m) * learnt.double()
                torch.testing.assert_close(
                    after[name].double(), expected, rtol=1e-6, atol=1e-7, msg=name
                )

    lines = next(Path(runner.log_dir).glob('vis_data/scalars.json')).read_text()
    logs = [json.loads(line) for line in lines.splitlines()]
    assert len(logs) == 6
    for log in logs:
        assert all(log[f'loss_{part}'] > 0 for part in ('image', 'content', 'position'))
        assert {'loss_koleo', 'teacher_momentum', 'weight_decay'} < log.keys()
        assert 0 < log['target_entropy'] < 1
        assert 0 < log['target_kl'] < 1
        assert log['student_kl'] > 0
        assert 1 < log['feature_rank'] <= 7  # of 8 [CLS]


def test_resume_equals_no_interruption(two_epochs, tmp_path):
    options = {'model.targets.method': 'centering'}
    train(two_epochs(**options, work_dir=str(tmp_path / 'whole')))
    train(
        two_epochs(
            **options,
            work_dir=str(tmp_path / 'resumed'),
            load_from=str(tmp_path / 'whole/epoch_1.pth'),
            resume=True,
        )
    )
    first, whole, resumed = (
        load_checkpoint_file(tmp_path / path)
        for path in ('whole/epoch_1.pth', 'whole/epoch_2.pth', 'resumed/epoch_2.pth')
    )
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_same(whole[part], resumed[part], part)
    centers = [name for name in whole['state_dict'] if name.endswith('center')]
    assert len(centers) == len(HEADS)
    for name in ('target_encoder.field.samples', *centers):
        assert first['state_dict'][name].any()
        assert not torch.equal(first['state_dict'][name], whole['state_dict'][name])


@pytest.mark.parametrize(
    ('part', 'value'), [('position', math.nan), ('koleo', math.inf)]
)
def test_a_loss_that_is_no_number(two_epochs, monkeypatch, part, value):
    """Told by its name, before anything is saved."""
    loss = PosField.loss

    def broken(*args) -> dict:
        losses = loss(*args)
        return {**losses, f'loss_{part}': losses[f'loss_{part}'] + value}

    monkeypatch.setattr(PosField, 'loss', broken)
    cfg = two_epochs()
    message = f'loss_{part} is {value} at iteration 1 '
    with pytest.raises(FloatingPointError, match=message):
        train(cfg)
    assert not list(Path(cfg.work_dir).glob('*.pth'))


def equal_prototypes(model: PosField) -> None:
    for heads in (model.heads, model.target_heads):
        nn.init.ones_(heads['cls'].prototypes.weight)


def equal_features(model: PosField) -> None:
    nn.init.zeros_(model.target_encoder.ln1.weight)  # the last norm


@pytest.mark.parametrize('collapse', [equal_prototypes, equal_features])
def test_collapse_is_told(two_epochs, monkeypatch, collapse):
    """A teacher that says nothing of anything; and that its features are all one."""

    def init_weights(model: PosField) -> None:
        super(PosField, model).init_weights()
        collapse(model)

    monkeypatch.setattr(PosField, 'init_weights', init_weights)
    runner = train(two_epochs(**{'train_cfg.max_epochs': 1}))
    text = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert 'Collapse? target_entropy is 1 at iteration 1, above 0.99' in text
    assert 'at iteration 1, below 0.01' in text
    no_rank = 'Collapse? feature_rank is 0 at iteration 1, below 1.2'
    assert (no_rank in text) == (collapse is equal_features)
    for name in ('target_entropy', 'target_kl'):  # again after a thousand
        assert text.count(f'Collapse? {name}') == 1
