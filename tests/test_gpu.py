"""What only a GPU can show: half precision there, determinism, and that nothing waits.

CI has no GPU, and skips all of this: ``python -m pytest tests/test_gpu.py`` on one.
"""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmpospretrain.models.losses.distillation import TeacherTargets
from mmpospretrain.models.losses.prototype_cross_entropy import cross_entropy
from mmpospretrain.models.positions import PositionField

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('*/*_vit-tiny-p16_photoshapes.py'))
K = 4096


def unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize('method', ['sinkhorn', 'centering'])
@pytest.mark.parametrize(
    ('amp', 'error'), [(None, 1e-4), (torch.float16, 0.02), (torch.bfloat16, 0.02)]
)
def test_losses_of_prototypes(method, amp, error):
    """Targets, loss and gradients against float64 on the CPU."""
    taught = unit(300, 256), unit(K, 256)
    answers, prototypes = unit(300, 256), unit(K, 256)
    weight = torch.rand(300).double()
    make = TeacherTargets(K, method)
    if method == 'centering':
        make.center.center += 0.1 * torch.randn(K)

    def run(device: str, dtype: torch.dtype) -> list[Tensor]:
        where = dict(device=device, dtype=dtype)
        told = (x.detach().to(**where) for x in (answers, prototypes))
        a, p = (x.requires_grad_() for x in told)
        with torch.autocast('cuda', amp, enabled=amp is not None and device == 'cuda'):
            targets = make.to(**where)(*(x.to(**where) for x in taught))
            loss = cross_entropy(a, p, targets, weight.to(**where), 0.1)
        loss.backward()
        return [targets.dense(), loss.detach(), a.grad, p.grad]

    expected = run('cpu', torch.float64)
    for found, wanted in zip(run('cuda', torch.float32), expected, strict=True):
        found = found.cpu().double()
        assert found.isfinite().all()
        assert (found - wanted).norm() <= error * wanted.norm()


def test_chunks_make_no_difference(monkeypatch):
    taught, told = ((unit(300, 32), unit(K, 32)) for _ in range(2))
    weight, make = torch.rand(300), TeacherTargets(K)
    results = []
    for chunk in (2**30, 50 * K * 2):
        monkeypatch.setattr(
            'mmpospretrain.models.losses.prototype_cross_entropy.LARGE_CHUNK', chunk
        )
        with torch.autocast('cuda', torch.bfloat16):
            targets = make(*(x.float().cuda() for x in taught))
            assert targets.matrix.dtype == torch.bfloat16
            told_there = [x.float().cuda().requires_grad_() for x in told]
            loss = cross_entropy(*told_there, targets, weight.cuda(), 0.1)
        results.append((loss, *torch.autograd.grad(loss, told_there)))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 0.01 * one.norm()


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
def test_field(monkeypatch, mode):
    """Values and gradients are those of the CPU, and the same every time."""
    field = PositionField(16, 50, mode)
    ends = torch.rand(12, 2, 2)
    boxes = torch.cat((ends.amin(1), ends.amax(1)), dim=1)
    flipped, up = torch.rand(12) < 0.5, torch.randn(12, 14 * 9, 16)

    def run(device: str) -> tuple[Tensor, Tensor]:
        there = field.to(device)
        there.zero_grad()
        found = there.on_grid(boxes.to(device), flipped.to(device), (14, 9))
        (found * up.to(device)).sum().backward()
        return found.detach().cpu(), there.samples.grad.cpu().clone()

    expected = run('cpu')
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # as PyTorch asks for
    torch.use_deterministic_algorithms(True)
    try:
        first, second = run('cuda'), run('cuda')
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b, wanted in zip(first, second, expected, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, wanted, rtol=1e-4, atol=1e-4)


@pytest.fixture
def timing(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'tools/benchmarks')
    return import_module('timing')


@pytest.mark.parametrize('amp', [None, 'bfloat16', 'float16'])
@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: path.stem)
def test_steps_neither_wait_nor_fail(timing, config, amp):
    """Of every method: finite losses that fall, and no loss that waits for the GPU."""
    step = timing.TrainStep(timing.Job(str(config), {}, 8, 'cuda', amp, False, None))

    def losses() -> dict[str, Tensor]:
        torch.manual_seed(0)
        return step.model.train_step(step.batch, step.optim_wrapper)

    first = losses()
    data = step.model.data_preprocessor(step.batch, True)
    torch.cuda.set_sync_debug_mode('error')
    try:
        with step.optim_wrapper.optim_context(step.model):
            step.model._run_forward(data, mode='loss')
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for _ in range(20):
        last = losses()
    assert all(value.isfinite().all() for value in last.values())
    assert last['loss'] < first['loss']
