"""The optimizer of a resumed training: its memory, with the options of the config."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler
from torch import Tensor

from .options import said
from .schedules import PLACE, SEEN, plan_anew, schedule_changes, scheduled_options

Groups = list[dict[str, Any]]

# Switches that need memory which an optimizer without them has not kept.
MEMORY_SWITCHES = ('amsgrad', 'centered')


@dataclass(frozen=True)
class Place:
    """Where a training stands."""

    epochs: int
    iterations: int
    epoch_length: int | None
    """Iterations in an epoch; None if epochs are not counted."""

    def steps_of(self, scheduler: _ParamScheduler) -> int:
        """Steps that a schedule has taken here."""
        return self.epochs if scheduler.by_epoch else self.iterations


def restore_optimizer(
    wrapper: OptimWrapper,
    schedulers: Sequence[_ParamScheduler],
    saved: dict[str, Any] | None,
    saved_schedules: Sequence[dict[str, Any]] | None,
    place: Place,
    hooked: set[str],
) -> list[str]:
    """Bring back an optimizer and its schedules.

    Args:
        wrapper: Just built from the config.
        schedulers: Likewise, those of this optimizer.
        saved: The optimizer in the checkpoint, if there is one.
        saved_schedules: The schedules in the checkpoint, likewise.
        place: Where the training stands.
        hooked: Options that hooks set in every iteration.

    Returns:
        A line for each option or schedule that is not as it was.

    Raises:
        ValueError: If the memory is of another optimizer or of other groups, or if
            schedules beside one that follows a metric differ.
    """
    scheduled = scheduled_options(schedulers)
    options: dict[str, str] = {}
    if saved is not None:
        check_groups(wrapper, saved)
        options = group_changes(
            wrapper.optimizer.param_groups, saved['param_groups'], scheduled, hooked
        )
    states = saved_schedules or []
    schedules = schedule_changes(schedulers, states)
    moved = (
        saved is None
        or -1 in schedules
        or not scheduled.isdisjoint(options)
        or any(
            state['_global_step'] != place.steps_of(scheduler)
            for scheduler, state in zip(schedulers, states, strict=False)
        )
    )
    watching = {
        i for i, s in enumerate(schedulers) if getattr(s, 'need_val_args', False)
    }
    if watching and (moved or not schedules.keys() <= watching):
        lines = [*options.values(), *schedules.values()]
        raise ValueError(
            'a learning rate that follows a metric (ReduceOnPlateauLR) cannot be '
            f'planned anew: {"; ".join(lines) or "the iterations do not match"}. '
            'Leave that as it was'
        )
    anew = moved or not schedules.keys() <= watching
    if saved is not None:
        load_memory(wrapper, saved, set() if anew else scheduled)
    if anew:
        plan_anew(schedulers, place.iterations, place.epoch_length)
    else:
        for index, (scheduler, state) in enumerate(
            zip(schedulers, states, strict=True)
        ):
            if index in schedules:  # its options are the config's
                state = {k: v for k, v in state.items() if k in PLACE | SEEN}
            scheduler.load_state_dict(state)
    lines = [*options.values(), *schedules.values()]
    if saved is None:
        lines.append('the checkpoint holds no optimizer: its averages begin anew')
    return lines


def check_groups(wrapper: OptimWrapper, saved: dict[str, Any]) -> None:
    """Check that an optimizer can take the memory of another.

    Raises:
        ValueError: If it can't; says in what they differ.
    """
    now, was = wrapper.optimizer.param_groups, saved['param_groups']
    kind = type(wrapper.optimizer).__name__
    way = 'Keep optim_wrapper as it was'
    numbers = {
        name
        for name, value in wrapper.defaults.items()
        if isinstance(value, int | float | tuple) and not isinstance(value, bool)
    }
    if was and (unknown := sorted(numbers - was[0].keys())):
        raise ValueError(
            f'the checkpoint is of another optimizer than {kind}: it has no '
            f'{", ".join(unknown)}. {way}'
        )
    sizes_now, sizes_was = ([len(g['params']) for g in groups] for groups in (now, was))
    if sizes_now != sizes_was:
        raise ValueError(
            f'the optimizer had {_groups(sizes_was)}, the one of this config has '
            f'{_groups(sizes_now)}. {way}: constructor, paramwise_cfg, what is frozen'
        )
    for name in MEMORY_SWITCHES:
        values = ([g.get(name, False) for g in groups] for groups in (was, now))
        before, after = values
        if before != after:
            raise ValueError(f'{said(name, before[0], after[0])}. {way}')
    parameters = [p for group in now for p in group['params']]
    indices = [i for group in was for i in group['params']]
    for parameter, index in zip(parameters, indices, strict=True):
        memory = saved['state'].get(index, {})
        for name in ('exp_avg', 'momentum_buffer'):
            tensor = memory.get(name)
            if isinstance(tensor, Tensor) and tensor.shape != parameter.shape:
                raise ValueError(
                    f"the optimizer's groups hold other parameters than they did: one "
                    f'was {tuple(tensor.shape)}, is {tuple(parameter.shape)}. {way}'
                )


def _groups(sizes: list[int]) -> str:
    return f'{len(sizes)} groups of {sum(sizes)} parameters ({sizes[:8]})'


def group_changes(
    now: Groups, was: Groups, scheduled: set[str], hooked: set[str]
) -> dict[str, str]:
    """A line for each option of the groups that is not as it was.

    What is scheduled is compared by its value before any schedule.
    """
    lines = {}
    for name in dict.fromkeys(name for group in now for name in group):
        initial = f'initial_{name}'
        follows = name in scheduled and initial not in scheduled
        if follows or name in {'params', 'param_names', *hooked}:
            continue
        key = initial if name in scheduled else name
        changed = [
            pair
            for before, after in zip(was, now, strict=True)
            if name in before and name in after
            if (pair := (before.get(key, before[name]), after[key]))[0] != pair[1]
        ]
        if changed:
            where = f' in {len(changed)} of {len(now)} groups' if now[1:] else ''
            lines[name] = said(name, *changed[0]) + where
    return lines


def load_memory(
    wrapper: OptimWrapper, saved: dict[str, Any], scheduled: set[str]
) -> None:
    """Load the memory of an optimizer, and of its options only what is scheduled."""

    def merged(now: dict[str, Any], was: dict[str, Any]) -> dict[str, Any]:
        place = {k: v for k, v in was.items() if k in {'params', *scheduled}}
        return {**now, **place}

    groups = zip(wrapper.optimizer.param_groups, saved['param_groups'], strict=True)
    state = {**saved, 'param_groups': [merged(*pair) for pair in groups]}
    if wrapper.base_param_settings and 'base_param_settings' in saved:
        state['base_param_settings'] = merged(
            wrapper.base_param_settings, saved['base_param_settings']
        )
    wrapper.load_state_dict(state)
