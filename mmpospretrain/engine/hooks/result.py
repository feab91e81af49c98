"""The result of a training, in a file of its own."""

import json
import time
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpospretrain.registry import HOOKS


@HOOKS.register_module()
class ResultHook(Hook):
    """Write the metrics of the last validation to ``<work dir>/result.json``.

    With them go the iteration, the seed, and the seconds of training and validation
    since the last start. The file is written last: where it is, the training was
    completed and measured. One that was interrupted between its last checkpoint and the
    validation is validated when it is resumed, which MMEngine does not do.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.metrics: dict[str, float] | None = None
        self.start = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self.start = time.monotonic()

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Remember the metrics."""
        self.metrics = metrics

    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        if self.metrics is None and runner.val_loop is not None:
            runner.val_loop.run()
        self._write(runner)

    @master_only
    def _write(self, runner: Runner) -> None:
        metrics = {name: float(value) for name, value in (self.metrics or {}).items()}
        result = dict(
            iteration=runner.iter,
            seed=runner.seed,
            seconds=round(time.monotonic() - self.start, 1),
            metrics=metrics,
        )
        path = Path(runner.work_dir, 'result.json')
        part = path.with_suffix('.part')
        part.write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
        part.replace(path)
