"""What MMEngine logged of a training, as curves."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure


def read_scalars(work_dir: str | Path) -> dict[str, dict[int, float]]:
    """Read what the runs in a work dir have logged.

    After a resume there are several runs; where they overlap, the latest holds.

    Args:
        work_dir: The work dir of ``tools/train.py``.

    Returns:
        For every name its values by step: iterations in training, epochs in validation.
    """
    scalars: dict[str, dict[int, float]] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            entry = json.loads(line)
            for name, value in entry.items():
                scalars.setdefault(name, {})[entry['step']] = value
    return {name: dict(sorted(values.items())) for name, values in scalars.items()}


def plot_curve(
    series: Mapping[str, Mapping[int, float]],
    ylabel: str,
    baseline: tuple[str, float] | None = None,
) -> Figure:
    """Draw series over the iteration; one with few points gets markers.

    Args:
        series: Values by iteration, by name.
        ylabel: What the values are.
        baseline: Name and value of a dashed line, for example what chance achieves.
    """
    figure = Figure(figsize=(5.4, 3.4), layout='constrained')
    axis = figure.subplots()
    for name, values in series.items():
        marker = 'o' if len(values) < 20 else None
        axis.plot(*zip(*values.items(), strict=True), label=name, marker=marker, ms=4)
    if baseline:
        name, value = baseline
        axis.axhline(value, color='.4', linestyle='--', linewidth=1, label=name)
    axis.set(xlabel='iteration', ylabel=ylabel)
    axis.grid(color='.9')
    axis.set_axisbelow(True)
    axis.spines[['top', 'right']].set_visible(False)
    if len(axis.lines) > 1:
        axis.legend(frameon=False)
    return figure
