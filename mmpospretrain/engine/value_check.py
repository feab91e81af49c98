"""Values that cannot be meant are errors that name key, value and what is allowed.

Two sources say what is allowed: the tables here, by the place of a value in the config,
and the signature of what is built, where it wants a number or a yes or no and the value
is a text (a misspelt False, which is true). What neither knows is left alone.
"""

import inspect
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from torch import nn


class Rule(NamedTuple):
    """What a value may be."""

    words: str
    allows: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Whether a value is a number, and not NaN."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and not math.isnan(value)


def number(words: str, allows: Callable[[Any], bool]) -> Rule:
    """A number for which something holds."""
    return Rule(words, lambda value: is_number(value) and allows(value))


def whole(words: str, allows: Callable[[Any], bool]) -> Rule:
    """A whole number for which something holds."""
    return Rule(
        words,
        lambda value: (
            isinstance(value, Integral)
            and not isinstance(value, bool)
            and allows(value)
        ),
    )


def choice(*values: Any) -> Rule:
    """One of some values."""
    words = ', '.join(map(repr, values))
    return Rule(f'one of {words}', lambda value: value in values)


def either(*rules: Rule) -> Rule:
    """What one of some rules allows."""
    words = ' or '.join(rule.words for rule in rules)
    return Rule(words, lambda value: any(rule.allows(value) for rule in rules))


def each(rule: Rule) -> Rule:
    """A value, or a list of values, that a rule allows."""
    return Rule(
        f'{rule.words}, or a list of such',
        lambda value: all(
            map(rule.allows, value if isinstance(value, list | tuple) else [value])
        ),
    )


YES_OR_NO = Rule('True or False', lambda value: isinstance(value, bool))
NOTHING = Rule('None', lambda value: value is None)
DICT = Rule('a dict', lambda value: isinstance(value, Mapping))
TEXT = Rule('a text', lambda value: isinstance(value, str))
POSITIVE = number('a number above 0', lambda value: value > 0)
NOT_NEGATIVE = number('a number from 0 on', lambda value: value >= 0)
SHARE = number('a number from 0 to 1', lambda value: 0 <= value <= 1)
COUNT = whole('a whole number from 1 on', lambda value: value >= 1)
FROM_ZERO = whole('a whole number from 0 on', lambda value: value >= 0)
COUNT_OR_NEVER = whole(
    'a whole number from 1 on, or -1 for never', lambda value: value >= 1 or value == -1
)
COUNT_OR_ALL = whole(
    'a whole number from 1 on, or -1 for all', lambda value: value >= 1 or value == -1
)
BETAS = Rule(
    'two or more numbers from 0 to below 1',
    lambda value: (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 1
        and all(is_number(beta) and 0 <= beta < 1 for beta in value)
    ),
)

SCHEDULE = r'param_scheduler(\.\w+)*'
LOADER = r'(train|val|test)_dataloader'
HOOKS = r'(default_hooks\.\w+|custom_hooks\.\d+)'
OPTIMIZER = r'optim_wrapper(\.\w+)*'
PARAMWISE = rf'{OPTIMIZER}\.paramwise_cfg(\..+)?'

# Rules by the place of a value; the first that matches counts.
RULES = {
    # the run
    r'model|env_cfg': DICT,
    r'resume|find_unused_parameters|detect_anomalous_params': YES_OR_NO,
    r'load_from|experiment_name': either(TEXT, NOTHING),
    r'work_dir': TEXT,
    r'launcher': choice('none', 'pytorch', 'slurm', 'mpi'),
    r'log_level': either(
        choice(*logging._nameToLevel), whole('a number', lambda value: value >= 0)
    ),
    r'compile': either(YES_OR_NO, DICT),
    r'sync_bn': either(choice('torch', 'mmcv'), NOTHING),
    r'randomness\.seed': either(FROM_ZERO, NOTHING),
    r'randomness\.(deterministic|diff_rank_seed)': YES_OR_NO,
    r'env_cfg\.cudnn_benchmark': YES_OR_NO,
    r'env_cfg\.mp_cfg\.mp_start_method': choice('fork', 'spawn', 'forkserver'),
    r'env_cfg\.mp_cfg\.opencv_num_threads': FROM_ZERO,
    r'env_cfg\.dist_cfg\.backend': TEXT,
    r'auto_scale_lr\.base_batch_size': COUNT,
    r'auto_scale_lr\.enable': YES_OR_NO,
    r'auto_scale_lr\.rule': choice('linear', 'sqrt'),
    # loops and loaders
    r'train_cfg\.(max_epochs|max_iters|val_interval)': COUNT,
    r'train_cfg\.val_begin': FROM_ZERO,
    r'(train|val|test)_cfg\.(by_epoch|fp16)': YES_OR_NO,
    rf'{LOADER}\.batch_size': COUNT,
    rf'{LOADER}\.num_workers': FROM_ZERO,
    rf'{LOADER}\.prefetch_factor': either(COUNT, NOTHING),
    rf'{LOADER}\.timeout': NOT_NEGATIVE,
    rf'{LOADER}\.(drop_last|pin_memory|persistent_workers)': YES_OR_NO,
    rf'{LOADER}\.num_batch_per_epoch': either(COUNT, NOTHING),
    # optimizer
    rf'{OPTIMIZER}\.accumulative_counts': COUNT,
    rf'{OPTIMIZER}\.clip_grad': either(DICT, NOTHING),
    rf'{OPTIMIZER}\.clip_grad\.(max_norm|clip_value)': POSITIVE,
    rf'{OPTIMIZER}\.clip_grad\.norm_type': either(POSITIVE, choice('inf')),
    rf'{OPTIMIZER}\.dtype': either(
        choice('float16', 'bfloat16', 'float32', 'float64'), NOTHING
    ),
    rf'{OPTIMIZER}\.loss_scale': either(POSITIVE, choice('dynamic'), DICT),
    rf'{OPTIMIZER}\.optimizer\.(lr|weight_decay|eps|weight_decay_rate)': NOT_NEGATIVE,
    rf'{OPTIMIZER}\.optimizer\.momentum': SHARE,
    rf'{OPTIMIZER}\.optimizer\.betas': BETAS,
    rf'{PARAMWISE}\.\w*_mult': NOT_NEGATIVE,
    rf'{PARAMWISE}\.(layer_decay_rate|decay_rate)': SHARE,
    rf'{PARAMWISE}\.bypass_duplicate': YES_OR_NO,
    # schedules
    rf'{SCHEDULE}\.begin': NOT_NEGATIVE,
    rf'{SCHEDULE}\.(end|T_max|total_iters|gamma|power)': POSITIVE,
    rf'{SCHEDULE}\.(start_factor|end_factor|factor)': SHARE,
    rf'{SCHEDULE}\.eta_min': either(NOT_NEGATIVE, NOTHING),
    rf'{SCHEDULE}\.eta_min_ratio': either(SHARE, NOTHING),
    rf'{SCHEDULE}\.milestones': each(FROM_ZERO),
    rf'{SCHEDULE}\.(by_epoch|convert_to_iter_based|verbose)': YES_OR_NO,
    # hooks and the log
    rf'{HOOKS}\.interval': COUNT_OR_NEVER,
    rf'{HOOKS}\.(max_keep_ckpts|patience)': COUNT_OR_ALL,
    rf'{HOOKS}\.save_begin': FROM_ZERO,
    rf'{HOOKS}\.save_best': either(each(TEXT), NOTHING),
    rf'{HOOKS}\.rule': either(each(choice('greater', 'less')), NOTHING),
    rf'{HOOKS}\.(by_epoch|save_last|save_optimizer|save_param_scheduler)': YES_OR_NO,
    r'log_processor\.window_size': COUNT,
    r'log_processor\.num_digits': FROM_ZERO,
    r'log_processor\.by_epoch': YES_OR_NO,
    # everywhere
    r'(.*\.)?drop_path_rate': each(SHARE),
    r'(.*\.)?(drop_rate|attn_drop_rate|proj_drop_rate|ffn_drop)': each(SHARE),
    r'(.*\.)?num_classes': either(each(COUNT), NOTHING),
}


def wrong_value(path: str, value: Any) -> str | None:
    """What is wrong with a value at its place in a config; None if nothing is known."""
    for pattern, rule in RULES.items():
        if re.fullmatch(pattern, path):
            return None if rule.allows(value) else _complaint(path, value, rule.words)
    return None


def wrong_argument(path: str, value: Any, target: Callable, key: str) -> str | None:
    """What is wrong with a text where a number, or a yes or no, is an argument.

    Args:
        path: Where it is in the config.
        value: The value.
        target: What is built with it.
        key: The name of the argument.
    """
    if not isinstance(value, str) or (kind := _kinds(target).get(key)) is None:
        return None
    return _complaint(path, value, kind)


def between_places(cfg: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with values that are right each by itself."""
    hooks = cfg.get('default_hooks') or {}
    named = {f'default_hooks.{name}': hook for name, hook in hooks.items()}
    for index, hook in enumerate(cfg.get('custom_hooks') or []):
        named[f'custom_hooks.{index}'] = hook
    trains_alone = cfg.get('train_dataloader') and not cfg.get('val_dataloader')
    for path, hook in named.items():
        for key in ('save_best', 'monitor'):
            if trains_alone and isinstance(hook, Mapping) and hook.get(key):
                yield (
                    f'{path}.{key}: {hook[key]!r} is measured in validation, and there '
                    'is none: give val_dataloader, val_cfg and val_evaluator (data '
                    f'with val/, no --no-validate), or {path}.{key}=None'
                )
    schedules = cfg.get('param_scheduler') or []
    for index, schedule in enumerate(
        schedules if isinstance(schedules, list | tuple) else [schedules]
    ):
        if not isinstance(schedule, Mapping):
            continue
        begin, end = schedule.get('begin', 0), schedule.get('end')
        if is_number(begin) and is_number(end) and end <= begin:
            yield (
                f'param_scheduler.{index}.end: must be above begin, which is {begin}, '
                f'got {end}'
            )


def _complaint(path: str, value: Any, words: str) -> str:
    return f'{path}: must be {words}, got {value!r}'


@cache
def _kinds(target: Callable) -> dict[str, str]:
    """The arguments that cannot be a text, and what they are."""
    parents = inspect.getmro(target) if inspect.isclass(target) else [target]
    kinds: dict[str, str | None] = {}
    for parent in parents:
        if parent in (nn.Module, object):
            break
        function = vars(parent).get('__init__') if inspect.isclass(parent) else parent
        if function is None:
            continue
        try:
            parameters = inspect.signature(function).parameters
            hints = get_type_hints(function)
        except (TypeError, ValueError, NameError, AttributeError):
            continue  # compiled code, or names that are there for checkers alone
        for name, parameter in parameters.items():
            kinds.setdefault(name, _kind(hints.get(name), parameter.default))
    return {name: kind for name, kind in kinds.items() if kind}


def _kind(hint: Any, default: Any) -> str | None:
    """What an argument is, if its annotation, or else its default, rules out a text."""
    if hint is None:
        types = {type(default)} & {bool, int, float}
    else:
        union = get_origin(hint) in (Union, UnionType)
        types = set(get_args(hint) if union else [hint]) - {NoneType}
    if types == {bool}:
        return 'True or False'
    return 'a number' if types and types <= {bool, int, float} else None
