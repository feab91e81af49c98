"""A chain of commands that goes on where it was interrupted."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console


@dataclass(frozen=True)
class Step:
    """A Python command that leaves a file behind when it is through."""

    title: str
    arguments: Sequence[str]
    """Of ``python``."""
    folder: Path
    """Where its results go, and those of no other step."""
    output: str
    """File in the folder, written last; the step is done when it is there."""

    @property
    def command(self) -> str:
        """For a shell."""
        return shlex.join(['python', *self.arguments])


class StepRunner:
    """Run steps that are not done yet, and add up the time that each one takes.

    A step whose command has changed, and every step after one that had to run, starts
    afresh. A step that was interrupted goes on with what is in its folder.

    Args:
        state_file: Keeps settings, commands and times from run to run.
        settings: What else the results depend on, plain values.
        cwd: Folder that commands run in.

    Raises:
        ValueError: If the earlier runs had other settings.
    """

    def __init__(self, state_file: Path, settings: dict, cwd: Path) -> None:
        self.state_file = state_file
        self.cwd = cwd
        self.state = {'settings': json.loads(json.dumps(settings)), 'steps': {}}
        if state_file.exists():
            earlier = json.loads(state_file.read_text(encoding='utf-8'))
            if earlier['settings'] != self.state['settings']:
                raise ValueError(
                    f'{state_file.parent} holds results of another config or of other '
                    'arguments: give another --work-dir, or delete it'
                )
            self.state = earlier

    def seconds(self, step: Step) -> float:
        """Time that a step has taken so far, in all runs."""
        return self.state['steps'].get(step.title, {}).get('seconds', 0.0)

    def run(self, steps: Sequence[Step]) -> None:
        """Run what is not done yet, in order.

        Raises:
            KeyboardInterrupt: If a step was interrupted, by Ctrl-C or SIGTERM.
            ValueError: If a step failed.
        """
        console = Console(highlight=False)
        for index, step in enumerate(steps):
            console.rule(f'[bold]{step.title}', align='left')
            console.print(f'$ {step.command}', style='cyan', soft_wrap=True)
            if not self._started(step):
                self._forget(step)
            output = step.folder / step.output
            if self._started(step) and output.exists():
                console.print(f'already there: {output}\n', soft_wrap=True)
                continue
            for later in steps[index + 1 :]:
                self._forget(later)
            start = time.monotonic() - self.seconds(step)
            try:
                self._execute(step.arguments)
            finally:
                seconds = time.monotonic() - start
                self._remember(step, seconds)
            console.print(f'done in {seconds:.0f} s\n')

    def _started(self, step: Step) -> bool:
        """Whether an earlier run began this very command."""
        return self.state['steps'].get(step.title, {}).get('command') == step.command

    def _forget(self, step: Step) -> None:
        """Remove the results of a step, if they are from here."""
        if self.state['steps'].pop(step.title, None):
            shutil.rmtree(step.folder, ignore_errors=True)

    def _remember(self, step: Step, seconds: float) -> None:
        self.state['steps'][step.title] = dict(command=step.command, seconds=seconds)
        text = json.dumps(self.state, indent=2) + '\n'
        self.state_file.write_text(text, encoding='utf-8')

    def _execute(self, arguments: Sequence[str]) -> None:
        # Ctrl-C reaches the process by itself; SIGTERM is passed on as if it were one,
        # also where it comes before there is a process.
        process, early = None, False

        def pass_on(*_: object) -> None:
            nonlocal early
            early = process is None
            if process:
                process.send_signal(signal.SIGINT)

        previous = signal.signal(signal.SIGTERM, pass_on)
        try:
            # A job in the background ignores SIGINT, and what it starts would, too.
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.cwd,
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
            if early:
                process.send_signal(signal.SIGINT)
            code = process.wait()
        finally:
            if process:
                process.wait()
            signal.signal(signal.SIGTERM, previous)
        if code in (130, -signal.SIGINT):
            raise KeyboardInterrupt
        if code:
            raise ValueError(f'this step failed with exit status {code}; see above')
