"""Training steps, timed in turn: what the benchmarks of steps have in common.

A step is what ``model.train_step`` does with a batch that waits in memory: preprocess,
forward, loss, backward, optimizer; and the teacher follows, if there is one. Data
loading, other hooks and logging are left out. The batch comes from the config's own
pipeline, fed with noise, so views and masks are those of training. Model and optimizer
are built as in training, learning rate unscaled.

Each job runs in a process of its own, so that none sees another's memory.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPERS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from mmpospretrain.engine.cli import load_config
from mmpospretrain.engine.hooks import TeacherHook
from mmpospretrain.registry import builds, registered

NOISE_SIZE = 512  # pixels; crops of training fit in
# What PyTorch does not count: attention on CPUs, and products added in place.
UNCOUNTED = {
    torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1],
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda *shapes, **__: sdpa_backward_flop_count(*shapes[:4])
    ),
}


class Job(NamedTuple):
    """What one process builds and times."""

    config: str
    options: dict[str, Any]
    batch_size: int
    device: str
    amp: str | None
    compile: bool
    threads: int | None


def interleave(
    steps: Sequence[Callable[[], float]], rounds: Iterable, warmup: int
) -> list[list[float]]:
    """Run steps in turn, A B A B …, and collect what they return.

    Args:
        steps: Run a step and return its seconds.
        rounds: Each item is a round, in which every step runs once.
        warmup: How many rounds at the start are not collected.

    Returns:
        One list for each of ``steps``.
    """
    values = [[step() for step in steps] for _ in rounds]
    return [list(column) for column in zip(*values[warmup:], strict=True)]


def summarize(seconds: Sequence[float], batch_size: int) -> dict[str, float]:
    """Median, minimum and maximum of step times, and the speed at the median."""
    middle = median(seconds)
    return dict(
        median=middle,
        min=min(seconds),
        max=max(seconds),
        seconds_per_image=middle / batch_size,
        images_per_second=batch_size / middle,
    )


def compare(a: Sequence[float], b: Sequence[float]) -> dict[str, float]:
    """Time of B over time of A: of the medians, the median over pairs, of the fastest.

    Work of others only ever adds to a step, which the fastest suffer least from; but
    of few steps one lucky one decides.
    """
    pairs = [y / x for x, y in zip(a, b, strict=True)]
    return dict(
        ratio_of_medians=median(b) / median(a),
        median_of_ratios=median(pairs),
        ratio_of_fastest=min(b) / min(a),
    )


def fit_to_device(
    optim_wrapper: ConfigDict, amp: str | None, device: str
) -> tuple[ConfigDict, str | None]:
    """Apply ``--amp``, or drop mixed precision where MMEngine has none: on a CPU.

    Returns:
        The config of the optimizer wrapper, and a note if it is neither what was
        written nor what was asked for.

    Raises:
        ValueError: If mixed precision is asked for on a CPU.
    """
    mixed_precision = amp not in (None, 'float32')
    if mixed_precision and device == 'cpu':
        raise ValueError('--amp needs --device cuda: MMEngine autocasts on GPUs alone')
    if mixed_precision:
        scale = {'loss_scale': 'dynamic'} if amp == 'float16' else {}
        mixed = dict(optim_wrapper, **scale, type='AmpOptimWrapper', dtype=amp)
        return ConfigDict(mixed), None
    unwanted = amp == 'float32' or device == 'cpu'
    if unwanted and builds(optim_wrapper, AmpOptimWrapper, OPTIM_WRAPPERS):
        full = dict(optim_wrapper, type='OptimWrapper')
        for key in ('dtype', 'loss_scale'):
            full.pop(key, None)
        note = 'AmpOptimWrapper needs a GPU; timed with OptimWrapper in float32'
        return ConfigDict(full), None if amp else note
    return optim_wrapper, None


def synthetic_batch(cfg: Config, batch_size: int) -> dict:
    """A batch of noise, as the config's pipeline and collate function make it."""
    loader = cfg.train_dataloader
    pipeline = Compose(loader.dataset.pipeline)
    size = (NOISE_SIZE, NOISE_SIZE)
    noise = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/noise.png'
        Image.fromarray(noise).save(path)
        # Pipelines for ImageFolder start from the image, MMPretrain's from its path.
        image = dict(img_path=path, img=noise, img_shape=size, ori_shape=size)
        image['gt_label'] = 0  # for classifiers; others leave it alone
        samples = [pipeline(image.copy()) for _ in range(batch_size)]
    loader = Runner.build_dataloader(
        dict(
            dataset=samples,
            batch_size=batch_size,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=loader.get('collate_fn', dict(type='pseudo_collate')),
        )
    )
    return next(iter(loader))


class TrainStep:
    """A model, its optimizer and a batch; every call of :meth:`seconds` is a step.

    Args:
        job: What to build.

    Raises:
        ValueError: If the device or the config does not allow what is asked for.
        FileNotFoundError: If there is no such config.
    """

    def __init__(self, job: Job) -> None:
        self.resident = resident_mib('VmRSS')
        if job.device == 'cuda' and not torch.cuda.is_available():
            raise ValueError('--device cuda: torch sees no GPU')
        if job.threads:
            torch.set_num_threads(job.threads)
        torch.manual_seed(0)
        cfg = load_config(job.config, job.options)
        MMLogger.get_current_instance().setLevel('ERROR')  # no line per parameter
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        optim_wrapper, self.note = fit_to_device(cfg.optim_wrapper, job.amp, job.device)
        optim_wrapper.accumulative_counts = 1  # every step is a whole one

        cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
        self.model = MODELS.build(cfg.model)
        self.model.init_weights()
        self.model.to(job.device).train()
        self.optim_wrapper = build_optim_wrapper(self.model, optim_wrapper)
        for hook in cfg.get('custom_hooks') or []:
            if registered(hook['type'], HOOKS) is TeacherHook:
                hook = HOOKS.build(hook)
                hook.listen(self.model, self.optim_wrapper.optimizer)
        self.compiled = bool(options := cfg.get('compile') or job.compile)
        if self.compiled:  # as MMEngine's Runner
            self.model.forward = torch.compile(
                self.model.forward, **(options if isinstance(options, dict) else {})
            )
        set_random_seed(0)  # configs with the same pipeline have the same batch
        self.batch = synthetic_batch(cfg, job.batch_size)
        self.on_gpu = job.device == 'cuda'
        self.steps = 0

    def facts(self) -> dict[str, Any]:
        """What the times depend on besides the config."""
        device = torch.cuda.get_device_name() if self.on_gpu else 'cpu'
        return dict(device=device, threads=torch.get_num_threads(), note=self.note)

    def seconds(self) -> float:
        """Run one step and return how long it took."""
        self.steps += 1
        # Both sides have the same masks, if they draw the same numbers in turn.
        torch.manual_seed(self.steps)
        self._synchronize()
        start = time.perf_counter()
        self.model.train_step(self.batch, self.optim_wrapper)
        self._synchronize()
        return time.perf_counter() - start

    def peak_memory(self) -> float:
        """MiB: allocated on the GPU, or what the process grew by since its imports."""
        if self.on_gpu:
            return torch.cuda.max_memory_allocated() / 2**20
        return resident_mib('VmHWM') - self.resident

    def flops(self) -> int:
        """Operations of a step: products of matrices, convolutions, attention.

        A multiplication and an addition are two. Unlike times, they do not depend on
        the machine.

        Raises:
            ValueError: If the model is compiled.
        """
        if self.compiled:
            raise ValueError('--flops: what torch.compile makes cannot be counted')
        with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as count:
            self.seconds()
        return count.get_total_flops()

    def _synchronize(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


def resident_mib(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process in MiB, from Linux.

    Not ``getrusage``: its peak starts at that of the parent process.
    """
    status = Path('/proc/self/status').read_text().splitlines()
    return int(dict(line.split(':', 1) for line in status)[field].split()[0]) / 2**10


class Remote:
    """A :class:`TrainStep` in a fresh process."""

    def __init__(self, job: Job) -> None:
        context = get_context('spawn')
        self.connection, theirs = context.Pipe()
        self.job = job
        self.process = context.Process(target=serve, args=(theirs, job), daemon=True)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for us
        self.process.start()
        signal.signal(signal.SIGINT, handler)
        theirs.close()  # so that the death of the process is seen

    def __call__(self, method: str) -> Any:
        """Call a method of the step over there.

        Raises:
            ValueError: If the step can't be built, or the process died.
            FileNotFoundError: If there is no such config.
        """
        try:
            self.connection.send(method)
            answer = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            raise ValueError(
                f'the process that runs {self.job.config} died: see above, or if there '
                'is nothing above, it ran out of memory'
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the process and wait until its memory is free."""
        self.connection.close()
        self.process.join()


def serve(connection: Connection, job: Job) -> None:
    """Answer the calls of a :class:`Remote` until its process goes away."""
    try:
        step = TrainStep(job)
        while True:
            connection.send(getattr(step, connection.recv())())
    except (EOFError, ConnectionError):
        pass
    except (ValueError, FileNotFoundError) as error:
        connection.send(error)


def benchmark(
    jobs: Sequence[Job],
    steps: int,
    warmup: int,
    title: str = 'timing',
    count_flops: bool = False,
) -> dict[str, Any]:
    """Time one job, or several in turn.

    Args:
        jobs: One or more.
        steps: Steps of each that count.
        warmup: Steps of each before that.
        title: Of the progress bar.
        count_flops: Whether operations are counted, in a step before all others.

    Returns:
        What ``--json`` writes: times in seconds, memory in MiB.
    """
    load = os.getloadavg()[0]
    with Console().status('building'):
        remotes = [Remote(job) for job in jobs]
        facts = [remote('facts') for remote in remotes]
        flops = [remote('flops') if count_flops else None for remote in remotes]
    times = interleave(
        [partial(remote, 'seconds') for remote in remotes],
        track(range(warmup + steps), title, transient=True),
        warmup,
    )
    memory = [remote('peak_memory') for remote in remotes]
    for remote in remotes:
        remote.close()
    runs = [
        dict(
            config=job.config,
            options=job.options,
            note=fact['note'],
            seconds=seconds,
            **summarize(seconds, job.batch_size),
            peak_memory_mib=mib,
            flops=count,
        )
        for job, fact, seconds, mib, count in zip(
            jobs, facts, times, memory, flops, strict=True
        )
    ]
    return dict(
        torch=torch.__version__,
        device=facts[0]['device'],
        threads=facts[0]['threads'],
        load=load,
        batch_size=jobs[0].batch_size,
        amp=jobs[0].amp,
        runs=runs,
        b_over_a=compare(*times) if len(times) == 2 else None,
    )


def conditions(result: dict[str, Any]) -> str:
    """What the times of `benchmark` hold for, in a line."""
    return (
        f'{result["device"]}, {result["threads"]} threads, torch '
        f'{result["torch"]}, load {result["load"]:.1f}; batch {result["batch_size"]}'
    )
