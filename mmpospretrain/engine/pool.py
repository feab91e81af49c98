"""Several trainings at once, each with a bar, a log, and a place to go on from."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LOG = 'output.log'


@dataclass(frozen=True)
class Job:
    """A training by ``tools/train.py`` that ends with a ``result.json``."""

    name: str
    arguments: tuple[str, ...]
    """Of ``python``."""
    folder: Path
    """Its work dir."""
    length: int
    unit: str
    """Of the length: ``'iter'`` or ``'epoch'``."""

    @property
    def command(self) -> str:
        """For a shell."""
        return shlex.join(['python', *self.arguments])

    @property
    def result(self) -> Path:
        """There once the training is through."""
        return self.folder / 'result.json'

    def read(self) -> dict:
        """The result, as `ResultHook` wrote it."""
        return json.loads(self.result.read_text(encoding='utf-8'))

    def progress(self) -> int:
        """How far it has come, by MMEngine's log."""
        last = 0
        for path in self.folder.glob('*/vis_data/scalars.json'):
            for line in reversed(path.read_text(encoding='utf-8').splitlines()):
                if '"loss"' in line:
                    last = max(last, json.loads(line)[self.unit])
                    break
        return last


class JobPool:
    """Run jobs side by side; those that are through are not run again.

    The output of a job goes into its folder, ``output.log``.

    Args:
        workers: Jobs at once. Each gets its share of the CPU cores.
        cwd: Folder that commands run in.

    Raises:
        ValueError: If ``workers`` is not positive.
    """

    def __init__(self, workers: int, cwd: Path) -> None:
        if workers < 1:
            raise ValueError(f'there must be at least 1 job at once, got {workers}')
        self.workers = workers
        self.cwd = cwd
        self.running: dict[Job, subprocess.Popen] = {}

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs that are not through yet, in order.

        Raises:
            KeyboardInterrupt: On Ctrl-C or SIGTERM, once every job has stopped.
            ValueError: If a job failed; the others are stopped.
        """
        waiting = [job for job in jobs if not job.result.exists()]
        console = Console(highlight=False)
        if done := len(jobs) - len(waiting):
            console.print(f'{done} of {len(jobs)} trainings were through already')
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}'),
            TimeElapsedColumn(),
        )
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with Progress(*columns, console=console) as progress:
                bars = {
                    job: progress.add_task(
                        job.name, total=job.length, unit=job.unit, start=False
                    )
                    for job in waiting
                }
                while waiting or self.running:
                    while waiting and len(self.running) < self.workers:
                        job = waiting.pop(0)
                        self.running[job] = self._start(job)
                        progress.start_task(bars[job])
                    self._poll(progress, bars)
                    time.sleep(0.5)
        finally:
            self._stop()
            signal.signal(signal.SIGTERM, previous)

    def _start(self, job: Job) -> subprocess.Popen:
        job.folder.mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        with (job.folder / LOG).open('ab') as log:
            return subprocess.Popen(
                [sys.executable, *job.arguments],
                cwd=self.cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={'OMP_NUM_THREADS': str(threads), **os.environ},
                start_new_session=True,  # Ctrl-C comes from here, once
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )

    def _poll(self, progress: Progress, bars: dict[Job, TaskID]) -> None:
        for job, process in list(self.running.items()):
            progress.update(bars[job], completed=job.progress())
            if process.poll() is None:
                continue
            del self.running[job]
            progress.stop_task(bars[job])
            if job.result.exists():
                progress.update(bars[job], completed=job.length)
            if process.returncode or not job.result.exists():
                raise ValueError(
                    f'{job.name} failed with exit status {process.returncode}. The end '
                    f'of {job.folder / LOG}:\n{_tail(job.folder / LOG)}\n'
                    f'Its command: {job.command}'
                )

    def _stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGINT)
        for process in self.running.values():
            process.wait()
        self.running.clear()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _tail(path: Path, lines: int = 8) -> str:
    """The last lines of a log, or all of the error that it ends with."""
    text = path.read_text(encoding='utf-8', errors='replace').rstrip().splitlines()
    starts = [n for n, line in enumerate(text) if line.startswith('error: ')]
    text = text[starts[-1] :] if starts else text[-lines:]
    return '\n'.join(f'    {line}' for line in text)
