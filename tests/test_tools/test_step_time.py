"""The benchmark of steps: its sums, and one run of it. No time is asserted."""

import json
import subprocess
import sys
from importlib import import_module
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict

from mmpospretrain.models.losses.prototype_cross_entropy import (
    Targets,
    cross_entropy,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools' / 'benchmarks' / 'step_time.py'
TINY = str(ROOT / 'configs' / 'droppos' / 'droppos_vit-tiny-p16_photoshapes.py')
DINOV2, POSFIELD = (
    str(ROOT / 'configs' / 'posfield' / f'{name}_vit-tiny-p16_photoshapes.py')
    for name in ('dinov2', 'posfield')
)
MAE = 'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py'


@pytest.fixture(scope='module')
def step_time():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield import_module('step_time')


@pytest.fixture(scope='module')
def timing(step_time):
    return import_module('timing')


def test_steps_alternate_and_warmup_is_left_out(timing):
    order = []

    def side(name):
        def step():
            order.append(name)
            return len(order)

        return step

    times = timing.interleave([side('A'), side('B')], range(3), warmup=1)
    assert order == ['A', 'B', 'A', 'B', 'A', 'B']
    assert times == [[3, 5], [4, 6]]


def test_summary_of_known_times(timing):
    assert timing.summarize([4.0, 1.0, 2.0], batch_size=8) == dict(
        median=2.0, min=1.0, max=4.0, seconds_per_image=0.25, images_per_second=4.0
    )


def test_ratios_are_b_over_a(timing):
    # Medians: A 2, B 3. Pairs: 3/1, 4/2, 3/9. The outlier of A leaves all alone.
    assert timing.compare([1.0, 2.0, 9.0], [3.0, 4.0, 3.0]) == dict(
        ratio_of_medians=1.5, median_of_ratios=2.0, ratio_of_fastest=3.0
    )


def parse(step_time, monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', ['step_time.py', *args])
    return step_time.jobs(step_time.parse_args())


def test_options_belong_to_their_side(step_time, monkeypatch):
    options = [
        '--cfg-options',
        'model.temperature=None',
        '--vs-options',
        'compile=True',
    ]
    a, b = parse(step_time, monkeypatch, 'a.py', *options)
    assert (a.config, a.options) == ('a.py', {'model.temperature': None})
    assert (b.config, b.options) == ('a.py', {'compile': True})
    b = parse(step_time, monkeypatch, 'a.py', '--vs', 'b.py')[1]
    assert (b.config, b.options) == ('b.py', {})
    assert len(parse(step_time, monkeypatch, 'a.py')) == 1


def test_no_steps_to_time(step_time, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parse(step_time, monkeypatch, 'a.py', '--steps', '0')
    assert '--steps must be at least 1, got 0' in capsys.readouterr().err


def test_mixed_precision_fits_the_device(timing):
    plain = ConfigDict(type='OptimWrapper', clip_grad=dict(max_norm=1))
    amp = ConfigDict(
        type='AmpOptimWrapper', loss_scale='dynamic', clip_grad=dict(max_norm=1)
    )

    assert timing.fit_to_device(plain, None, 'cpu') == (plain, None)
    assert timing.fit_to_device(amp, None, 'cuda') == (amp, None)
    converted, note = timing.fit_to_device(amp, None, 'cpu')
    assert converted == plain
    assert 'float32' in note
    assert timing.fit_to_device(plain, 'bfloat16', 'cuda')[0] == dict(
        type='AmpOptimWrapper', dtype='bfloat16', clip_grad=dict(max_norm=1)
    )
    assert timing.fit_to_device(plain, 'float16', 'cuda')[0] == dict(
        amp, dtype='float16'
    )
    with pytest.raises(ValueError, match='--device cuda'):
        timing.fit_to_device(plain, 'bfloat16', 'cpu')
    for device in ('cpu', 'cuda'):
        assert timing.fit_to_device(amp, 'float32', device) == (plain, None)


def test_batch_of_a_classifier_has_labels(timing):
    cfg = timing.load_config('mmpretrain::deit/deit-base_16xb64_in1k.py')
    batch = timing.synthetic_batch(cfg, batch_size=2)
    assert [sample.gt_label.tolist() for sample in batch['data_samples']] == [[0], [0]]
    assert batch['inputs'][0].shape == (3, 224, 224)


def test_the_same_views_on_both_sides_and_a_teacher_that_follows(
    timing, step_time, monkeypatch
):
    arguments = ('--vs', POSFIELD, '--device', 'cpu', '--batch-size', '2')
    steps = [*map(timing.TrainStep, parse(step_time, monkeypatch, DINOV2, *arguments))]
    given = [step.batch for step in steps]
    torch.testing.assert_close(*(batch['inputs'] for batch in given), rtol=0, atol=0)
    boxes, others = (
        [sample.view_boxes for sample in batch['data_samples']] for batch in given
    )
    np.testing.assert_array_equal(boxes, others)
    for step in steps:
        student, teacher = step.model.backbone.norm1, step.model.target_encoder.norm1
        before = teacher.bias.clone()
        step.seconds()
        # The momentum of the first step; before it, they are the same.
        expected = torch.lerp(student.bias, before, 0.992)
        torch.testing.assert_close(teacher.bias, expected, rtol=0, atol=1e-9)
        assert not torch.equal(teacher.bias, before)


def test_three_jobs_in_turn(timing, step_time, monkeypatch):
    closed = []

    class Fake:
        def __init__(self, job):
            self.job = job

        def __call__(self, method):
            facts = dict(device='cpu', threads=1, note=None)
            return dict(facts=facts, seconds=2.0, peak_memory=3.0)[method]

        def close(self):
            closed.append(self.job.config)

    monkeypatch.setattr(timing, 'Remote', Fake)
    job = parse(step_time, monkeypatch, 'a.py')[0]
    jobs = [job._replace(config=name) for name in 'abc']
    result = timing.benchmark(jobs, steps=2, warmup=1)
    assert [run['config'] for run in result['runs']] == closed == ['a', 'b', 'c']
    assert result['runs'][2]['seconds'] == [2.0, 2.0]
    assert result['b_over_a'] is None


def test_attention_counts_on_a_cpu(timing):
    """Two products, and five for the gradient: the first of them is made anew."""
    query = torch.randn(2, 3, 5, 7, requires_grad=True)
    count = timing.FlopCounterMode(display=False, custom_mapping=timing.UNCOUNTED)
    product = 2 * (2 * 3 * 5 * 5 * 7)
    with count:
        answer = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        assert count.get_total_flops() == 2 * product
        answer.sum().backward()
    assert count.get_total_flops() == (2 + 5) * product


def test_all_products_of_a_loss_count(timing):
    """Logits, and the gradients of answers and of prototypes."""
    answers, prototypes = torch.randn(5, 3), torch.randn(7, 3)
    count = timing.FlopCounterMode(display=False, custom_mapping=timing.UNCOUNTED)
    with count:
        targets = Targets(torch.rand(5, 7), torch.ones(7))
        cross_entropy(answers, prototypes, targets, torch.ones(5), 0.1)
    products = 2 * (5 * 3 * 7) * 3
    sums = 2 * (5 * 7)  # of the targets with the logits
    assert count.get_total_flops() == products + sums


def test_what_is_compiled_is_not_counted(timing, step_time, monkeypatch):
    options = ['--device', 'cpu', '--compile', '--flops', '--batch-size', '2']
    job = parse(step_time, monkeypatch, TINY, *options)[0]
    with pytest.raises(ValueError, match='compile makes cannot be counted'):
        timing.TrainStep(job).flops()


def test_errors_cross_the_process_boundary(timing, step_time, monkeypatch):
    job = parse(step_time, monkeypatch, 'nowhere.py', '--device', 'cpu')[0]
    ours, theirs = Pipe()
    timing.serve(theirs, job)
    error = ours.recv()
    assert isinstance(error, FileNotFoundError)
    assert 'nowhere.py' in str(error)


def test_droppos_against_mae(tmp_path):
    """Two configs, one of them MMPretrain's and in mixed precision, by the CLI."""
    out = tmp_path / 'times.json'
    process = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), TINY, '--vs', MAE),
            *('--cfg-options', 'model.temperature=0.1'),
            *('--vs-options', 'model.backbone.arch=deit-tiny'),
            *('model.neck.embed_dim=192', 'model.neck.decoder_depth=1'),
            *('--batch-size=2', '--steps=2', '--warmup=1', f'--json={out}'),
            *('--device=cpu', '--threads=1', '--flops'),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    result = json.loads(out.read_text())
    a, b = result['runs']
    assert (result['batch_size'], result['threads']) == (2, 1)
    assert (a['config'], a['options']) == (TINY, {'model.temperature': 0.1})
    assert (b['config'], b['options']['model.neck.embed_dim']) == (MAE, 192)
    assert a['note'] is None
    assert 'OptimWrapper' in b['note']
    for side in (a, b):
        assert len(side['seconds']) == 2
        assert 0 < side['min'] <= side['median'] <= side['max']
    # At least weights, gradients and AdamW's two moments: 4 numbers of 4 bytes for each
    # of the 5.3 M parameters of the encoder.
    assert b['peak_memory_mib'] > 5.3e6 * 4 * 4 / 2**20
    ratio = result['b_over_a']['ratio_of_medians']
    assert ratio == pytest.approx(b['median'] / a['median'])
    quote = process.stdout.splitlines()[-1]
    assert f'B/A {ratio:.3f}' in quote
    # The 5.3 M parameters of the encoder see the 49 patches of an image that MAE shows
    # it: once forward, twice backward.
    assert 1e9 < 5.3e6 * 49 * 2 * 3 * 2 < b['flops'] < 2e10
    memory = b['peak_memory_mib'] / a['peak_memory_mib']
    assert f'peak memory B/A {memory:.3f}' in quote
    assert f'operations B/A {b["flops"] / a["flops"]:.3f}' in quote
