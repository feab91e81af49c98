"""Schedules of a resumed training: as the checkpoint left them, or planned anew."""

import warnings
from collections.abc import Sequence
from typing import Any

from mmengine.optim import _ParamScheduler

from .options import UNSET, said

# Of a schedule's state: where it stands, what it has seen. The rest is of its config.
PLACE = {'last_step', '_global_step', '_last_value'}
SEEN = {'best', 'num_bad_epochs', 'cooldown_counter'}
DERIVED = {'base_values', 'verbose'}


def scheduled_options(schedulers: Sequence[_ParamScheduler]) -> set[str]:
    """What schedules write into the groups of an optimizer."""
    names = set()
    for scheduler in schedulers:
        name = scheduler.param_name
        names |= {name, f'initial_{name}', f'max_{name}', f'min_{name}'}
        if getattr(scheduler, 'use_betas', False):
            names.add('betas')
    return names


def schedule_changes(
    schedulers: Sequence[_ParamScheduler], saved: Sequence[dict[str, Any]]
) -> dict[int, str]:
    """A line for each schedule that is not as it was, by its place in the config.

    Schedules that were added or taken away are one line, at -1.
    """
    if len(schedulers) != len(saved):
        return {-1: said('the number of schedules', len(saved), len(schedulers))}
    lines = {}
    for index, (scheduler, was) in enumerate(zip(schedulers, saved, strict=True)):
        now = scheduler.state_dict()
        changes = [
            said(key, was.get(key, UNSET), now.get(key, UNSET))
            for key in dict.fromkeys([*was, *now])
            if key not in PLACE | SEEN | DERIVED
            and not callable(now.get(key))  # follows from the options
            and was.get(key, UNSET) != now.get(key, UNSET)
        ]
        if changes:
            unit = 'epochs' if scheduler.by_epoch else 'iterations'
            lines[index] = (
                f'param_scheduler.{index} ({type(scheduler).__name__}, in {unit}) '
                f'is planned anew: {", ".join(changes)}'
            )
    return lines


def plan_anew(
    schedulers: Sequence[_ParamScheduler], iterations: int, epoch_length: int | None
) -> None:
    """Take schedules that have just been built to where their training stands.

    Every step is taken, as MMEngine makes each value from the last: they are bit for
    bit those of a training that had these schedules from its beginning.

    Args:
        schedulers: Of one optimizer, in the order of the config.
        iterations: Iterations done.
        epoch_length: Iterations in an epoch; None if epochs are not counted.
    """
    with warnings.catch_warnings():
        # Schedulers complain of an optimizer that has not stepped between.
        warnings.simplefilter('ignore', UserWarning)
        for iteration in range(1, iterations + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if epoch_length and iteration % epoch_length == 0:
                for scheduler in schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()
