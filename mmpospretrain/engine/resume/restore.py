"""Everything that a resume brings back, compared with what is asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.registry import LOOPS, OPTIMIZERS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mmpospretrain.registry import registered
from mmpospretrain.zoo.checkpoint_state import config_text
from mmpospretrain.zoo.trained_config import config_options

from ..hooks.scalar_schedule import WeightDecayScheduleHook
from .checkpoints import checkpoint_folder, keep_to_folder
from .optimizer import Place, restore_optimizer
from .options import differences, option_changes, said

# What a message hub says of a run, and not of how far it has come.
OF_THE_RUN = ('cfg', 'experiment_name', 'loop_stage', 'mmengine_version', 'seed')


def restore(runner: Runner, checkpoint: dict[str, Any], source: str) -> None:
    """Bring back all but the weights, and log a line for everything that differs.

    Args:
        runner: Of the training that goes on; its loop, optimizer and schedules are
            built from the config, its weights loaded.
        checkpoint: As MMEngine saves it.
        source: Where it is from.

    Raises:
        ValueError: If the checkpoint does not say how far its training had come, or
            if a difference can't take effect: another kind of loop or optimizer.
    """
    meta = checkpoint.get('meta', {})
    instead = f'--cfg-options load_from={source}, without --resume'
    if not {'epoch', 'iter'} <= meta.keys() or 'message_hub' not in checkpoint:
        raise ValueError(
            f'{source} holds weights, and not how far their training had come: begin '
            f'a new one from them with {instead}'
        )
    was = config_options(config_text(checkpoint))
    now = config_options(runner.cfg.pretty_text)
    try:
        check_kinds(was, now)
        lines = option_changes(was, now) if was else []
        lines += restore_counts(runner, meta)
        lines += restore_seed(runner, meta)
        lines += restore_optimizers(runner, checkpoint)
    except ValueError as error:
        raise ValueError(
            f'cannot resume from {source}: {error}, or begin a new training from its '
            f'weights, {instead}'
        ) from error
    data = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    lines += [
        said(*difference)
        for difference in differences(meta.get('dataset_meta'), data, 'metainfo')
    ]
    lines += restore_hub(runner, checkpoint['message_hub'], source)
    if lines:
        lines += ended_schedules(runner)
    for line in lines:
        runner.logger.warning(f'Resumed with a difference: {line}')


def check_kinds(was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that two configs have the same kind of loop and of optimizer.

    Raises:
        ValueError: If they have not.
    """
    counts = [_counts_epochs(cfg.get('train_cfg') or {}) for cfg in (was, now)]
    if None not in counts and counts[0] != counts[1]:
        before, after = ('epochs' if c else 'iterations' for c in counts)
        raise ValueError(
            f'its training counted {before}, this one counts {after}: keep by_epoch '
            'and type of train_cfg as they were'
        )
    types = [
        ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('type')
        for cfg in (was, now)
    ]
    before, after = (registered(name, OPTIMIZERS) if name else None for name in types)
    if before and after and before is not after:
        raise ValueError(
            f'{said("optim_wrapper.optimizer.type", *types)}, which has no use for '
            "the other's averages: keep it as it was"
        )


def _counts_epochs(train_cfg: Mapping[str, Any]) -> bool | None:
    """Whether a loop counts epochs; None if that can't be told."""
    if 'type' not in train_cfg:
        return train_cfg.get('by_epoch')
    loop = registered(train_cfg['type'], LOOPS)
    for counts, base in ((True, EpochBasedTrainLoop), (False, IterBasedTrainLoop)):
        if isinstance(loop, type) and issubclass(loop, base):
            return counts
    return None


def restore_counts(runner: Runner, meta: Mapping[str, Any]) -> list[str]:
    """Say how far the training has come.

    A training by epochs has done whole epochs, whatever their length is now; one that
    was left within an epoch begins that epoch again.
    """
    loop = runner.train_loop
    epochs, iterations = meta['epoch'], meta['iter']
    lines = []
    old_gpus = config_options(meta.get('config', '')).get('gpu_ids')  # MMCV's runners
    processes = meta.get('processes') or len(old_gpus or ()) or runner.world_size
    if processes != runner.world_size:
        lines.append(said('the number of processes', processes, runner.world_size))
    if isinstance(loop, EpochBasedTrainLoop):
        length = len(loop.dataloader)
        if 'epoch_length' in meta:
            epochs = iterations // meta['epoch_length']
        if iterations != epochs * length:
            what = said('the number of iterations done', iterations, epochs * length)
            lines.append(f'{what}: {epochs} epochs of {length}')
            iterations = epochs * length
    loop._epoch, loop._iter = epochs, iterations
    return lines


def restore_seed(runner: Runner, meta: Mapping[str, Any]) -> list[str]:
    """Go on with the seed of the beginning, unless the config has another."""
    asked = runner._randomness_cfg.get('seed')
    seed = meta.get('seed')
    if seed is None or seed == asked:
        return []
    if asked is not None:
        return [said('randomness.seed', seed, asked)]
    runner._randomness_cfg.update(seed=seed)
    runner.set_randomness(**runner._randomness_cfg)
    return []


def restore_optimizers(runner: Runner, checkpoint: Mapping[str, Any]) -> list[str]:
    """Bring back every optimizer with its schedules."""
    wrapper = runner.optim_wrapper
    hooks = (h for h in runner.hooks if isinstance(h, WeightDecayScheduleHook))
    loop = runner.train_loop
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    at = dict(
        place=Place(loop.epoch, loop.iter, len(loop.dataloader) if by_epoch else None),
        hooked={'weight_decay'} if any(hooks) else set(),
    )
    saved, states = (checkpoint.get(k) for k in ('optimizer', 'param_schedulers'))
    if not isinstance(wrapper, OptimWrapperDict):
        return restore_optimizer(
            wrapper, runner.param_schedulers or [], saved, states, **at
        )
    return [
        f'{name}: {line}'
        for name, part in wrapper.items()
        for line in restore_optimizer(
            part,
            (runner.param_schedulers or {}).get(name, []),
            (saved or {}).get(name),
            (states or {}).get(name),
            **at,
        )
    ]


def restore_hub(runner: Runner, hub: Mapping[str, Any], source: str) -> list[str]:
    """Bring back logged values, and what was noted of checkpoints in this folder."""
    info = {k: v for k, v in hub['runtime_info'].items() if k not in OF_THE_RUN}
    lines = keep_to_folder(info, Path(source), checkpoint_folder(runner))
    keys = info.keys() | hub['log_scalars'].keys()
    resumed = {k: v for k, v in hub['resumed_keys'].items() if k in keys}
    runner.message_hub.load_state_dict(
        {**hub, 'runtime_info': info, 'resumed_keys': resumed}
    )
    return lines


def ended_schedules(runner: Runner) -> list[str]:
    """Say so where training goes on and the schedules of its learning rate do not."""
    schedulers = runner.param_schedulers or []
    rates = [s for s in schedulers if getattr(s, 'param_name', None) == 'lr']
    if (
        not rates
        or runner.iter >= runner.max_iters
        or any(s._global_step < s.end for s in rates)
    ):
        return []
    rate = max(runner.optim_wrapper.get_lr()['lr'])
    return [
        f'no schedule is left for the iterations to come, their learning rate is '
        f'{rate:.3g}: for another, give the last one of param_scheduler a later end'
    ]
