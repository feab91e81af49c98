"""What MMEngine logged of a training, as curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .wording import plain


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
    xlabel: str = 'iteration',
) -> Figure:
    """Draw series over the iteration; one with few points gets markers.

    Args:
        series: Values by iteration, by name.
        ylabel: What the values are.
        baseline: Name and value of a dashed line, for example what chance achieves.
        xlabel: What the values are by, if not the iteration.
    """
    figure, axis = _frame(xlabel, ylabel)
    for name, values in series.items():
        marker = 'o' if len(values) < 20 else None
        points = zip(*values.items(), strict=True)
        axis.plot(*points, label=plain(name), marker=marker, ms=4)
    if baseline:
        name, value = baseline
        axis.axhline(value, color='.4', linestyle='--', linewidth=1, label=plain(name))
    if len(axis.lines) > 1:
        axis.legend(frameon=False)
    return figure


def plot_seeds(
    runs: Mapping[str, Sequence[Mapping[int, float]]], xlabel: str, ylabel: str
) -> Figure:
    """Draw repeated runs: thin lines for each, a thick one for their mean.

    Args:
        runs: For every name the values of its runs by step.
        xlabel: What the steps are.
        ylabel: What the values are.
    """
    figure, axis = _frame(xlabel, ylabel)
    for index, (name, curves) in enumerate(runs.items()):
        for curve in curves:
            axis.plot(*zip(*curve.items(), strict=True), color=f'C{index}', lw=0.7)
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        means = [sum(curve[step] for curve in curves) / len(curves) for step in steps]
        style = dict(color=f'C{index}', lw=2, marker='o', ms=4)
        axis.plot(steps, means, **style, label=plain(name))
    axis.legend(frameon=False)
    return figure


def _frame(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.4), layout='constrained')
    axis = figure.subplots()
    axis.set(xlabel=plain(xlabel), ylabel=plain(ylabel))
    axis.grid(color='.9')
    axis.set_axisbelow(True)
    axis.spines[['top', 'right']].set_visible(False)
    return figure, axis
