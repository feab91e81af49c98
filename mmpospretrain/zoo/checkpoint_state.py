"""What a checkpoint says beside weights, and MMEngine would run or delete.

MMEngine runs a config inside a checkpoint as Python: ``meta.config`` when it resumes,
``message_hub.runtime_info.cfg`` and ``meta.cfg`` when an inferencer is given no config.
And its ``CheckpointHook`` deletes the file or folder that the message hub calls the
best checkpoint, wherever it is. None of it reaches MMEngine: `set_aside` puts it away,
in every loader, and our runner takes back what it can use without harm.
"""

import ast
import os
import re
from collections.abc import MutableMapping
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torch import Tensor

ASIDE = 'set_aside'  # the key of a checkpoint for what was put away
# What Python's parser raises for what is no program, or one nested without end.
UNREADABLE = (MemoryError, RecursionError, SyntaxError, TypeError, ValueError)
HUB = ('log_scalars', 'runtime_info', 'resumed_keys')  # parts of a message hub


def set_aside(checkpoint: MutableMapping[str, Any]) -> None:
    """Put away, in place, what MMEngine would run as code or take for a path.

    It is in ``checkpoint['set_aside']`` from then on. Of an old ``meta.config`` stays
    the number of GPUs, which MMEngine compares.
    """
    aside = {'cfg': None, 'files': {}}
    checkpoint.pop(ASIDE, None)  # it is ours to write
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    if isinstance(meta, dict):
        if 'config' in meta:
            meta['config'] = _gpu_ids(meta['config'])
        aside['cfg'] = meta.pop('cfg', None)
    elif not isinstance(meta, Tensor):  # a weight may be called so
        checkpoint.pop('meta', None)
    if isinstance(hub, dict):
        # MMEngine takes anything else for a whole MessageHub, with all that is in it.
        hub.update({part: {} for part in HUB if not isinstance(hub.get(part), dict)})
        aside['files'] = _without_paths(hub)
    else:
        checkpoint.pop('message_hub', None)
    if aside['cfg'] or aside['files']:
        checkpoint[ASIDE] = aside


def _gpu_ids(config: Any) -> str:
    """Text without code that says of the GPUs what a config says."""
    with suppress(*UNREADABLE):
        for statement in ast.parse(config).body:
            if (
                isinstance(statement, ast.Assign)
                and ast.unparse(statement.targets) == 'gpu_ids'
            ):
                return f'gpu_ids = {[*map(int, ast.literal_eval(statement.value))]}'
    return ''


def _without_paths(hub: dict[str, dict]) -> dict[str, str]:
    """Take what is run or names files out of a message hub; the paths of files."""
    info = hub['runtime_info']
    info.pop('cfg', None)
    if not _are_numbers(info.get('keep_ckpt_ids')):
        info.pop('keep_ckpt_ids', None)
    files = {key: info.pop(key) for key in [*info] if _names_a_file(key)}
    kept = info.keys() | hub['log_scalars'].keys()
    hub['resumed_keys'] = {k: v for k, v in hub['resumed_keys'].items() if k in kept}
    return {key: path for key, path in files.items() if isinstance(path, str)}


def _are_numbers(keep: Any) -> bool:
    return type(keep) is list and all(type(step) is int and step >= 0 for step in keep)


def give_back(checkpoint: MutableMapping[str, Any]) -> None:
    """Return, in place, what was set aside, to who does not run or follow it.

    A runner that trains has to call `drop_foreign_files`.
    """
    aside = checkpoint.pop(ASIDE, {'cfg': None, 'files': {}})
    if aside['cfg'] is not None:
        checkpoint['meta']['cfg'] = aside['cfg']
    for key, path in aside['files'].items():
        checkpoint['message_hub']['runtime_info'][key] = path
        checkpoint['message_hub']['resumed_keys'][key] = True


def drop_foreign_files(
    checkpoint: MutableMapping[str, Any], work_dir: str | Path
) -> None:
    """Keep, in place, of the files in a message hub those of a work dir, by name.

    There alone does a training delete: the best checkpoint, once there is a better one.
    """
    hub = checkpoint.get('message_hub', {})
    info = hub.get('runtime_info', {})
    for key in [key for key in info if _names_a_file(key)]:
        name = re.split(r'[\\/]', info[key])[-1]
        file = os.path.join(work_dir, name)
        # Not by Path, which raises an error of its own for impossible names.
        if os.path.isfile(file) and (key == 'last_ckpt' or fnmatch(name, 'best_*')):
            info[key] = file
        else:
            del info[key]
            hub['resumed_keys'].pop(key, None)


def _names_a_file(key: Any) -> bool:
    return str(key).startswith(('best_ckpt', 'last_ckpt'))


def config_text(checkpoint: MutableMapping[str, Any]) -> Any:
    """The config inside a checkpoint, to be read and never run; '' if there is none."""
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    return meta.get('cfg') or checkpoint.get(ASIDE, {}).get('cfg') or ''
