"""The checkpoints of a work dir: the newest whole one, and none of another training."""

import re
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmpospretrain.zoo.loading import load_checkpoint_file

POINTER = 'last_checkpoint'


def checkpoint_hook(runner: Runner) -> CheckpointHook | None:
    """The hook that saves."""
    return next((h for h in runner.hooks if isinstance(h, CheckpointHook)), None)


def checkpoint_folder(runner: Runner) -> Path:
    """Where a training saves: its work dir, or what its checkpoint hook makes of it."""
    work_dir = Path(runner.work_dir)
    out_dir = getattr(checkpoint_hook(runner), 'out_dir', None)
    if out_dir is None or str(out_dir) == str(runner.work_dir):
        return work_dir
    return Path(out_dir, work_dir.name)


def saved_checkpoints(runner: Runner) -> list[list[Path]]:
    """The checkpoints of a training, those of each kind of name with the last first."""
    template = getattr(checkpoint_hook(runner), 'filename_tmpl', 'epoch_{}.pth')
    folder = checkpoint_folder(runner)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    kinds = []
    for name in dict.fromkeys([template, 'epoch_{}.pth', 'iter_{}.pth']):
        pattern = re.compile(re.escape(name).replace(r'\{\}', r'(\d+)'))
        numbered = [
            (int(match[1]), path)
            for path in files
            if (match := pattern.fullmatch(path.name))
        ]
        if numbered:
            kinds.append([path for _, path in sorted(numbered, reverse=True)])
    return kinds


def find_checkpoint(runner: Runner) -> Path | None:
    """The newest whole checkpoint in the work dir; None if nothing was saved yet.

    ``last_checkpoint`` is a hint: it may be empty, or name a folder that has moved. All
    processes get what the main one has found.

    Raises:
        ValueError: If no checkpoint there is whole, or those that were are gone.
    """
    found = [None, '']
    if is_main_process():
        try:
            found[0] = _newest(runner)
        except ValueError as error:
            found[1] = str(error)
    broadcast_object_list(found)
    path, error = found
    if error:
        raise ValueError(error)
    return path


def _newest(runner: Runner) -> Path | None:
    folder = checkpoint_folder(runner)
    pointer = Path(runner.work_dir, POINTER)
    hint = ''
    if pointer.is_file():
        hint = pointer.read_text(encoding='utf-8', errors='replace').strip()
    kinds = saved_checkpoints(runner)
    if not kinds:
        if pointer.is_file():
            raise ValueError(
                f'there is no checkpoint in {folder}, though {pointer} names {hint!r}: '
                'go on from a file elsewhere with --resume PATH, or delete '
                f'{POINTER} to start from the beginning'
            )
        runner.logger.info(
            f'There is no checkpoint in {folder} yet: training starts from the '
            'beginning'
        )
        return None
    # A training that was begun anew here may be behind one that was there before: of
    # the last of each kind and the one that the hint names, the latest is meant.
    hinted = [p for paths in kinds for p in paths if p.name == Path(hint).name]
    broken: dict[Path, str] = {}
    saved_at: dict[Path, tuple[str, int]] = {}
    for paths in [*kinds, hinted]:
        for path in paths:
            if path not in saved_at and path not in broken:
                try:
                    meta = load_checkpoint_file(path).get('meta', {})
                    saved_at[path] = (str(meta['time']), int(meta['iter']))
                except KeyError:
                    broken[path] = f'{path} holds weights alone, nothing to resume'
                except (OSError, TypeError, ValueError) as error:
                    broken[path] = str(error)
            if path in saved_at:
                break
    reasons = '; '.join([*broken.values()][:3])
    if not saved_at:
        raise ValueError(
            f'none of the {len(broken)} checkpoints in {folder} is whole: {reasons}. '
            'Another --work-dir starts from the beginning'
        )
    newest = max(saved_at, key=saved_at.__getitem__)
    if broken:
        runner.logger.warning(
            f'{len(broken)} checkpoints in {folder} are not whole, {newest.name} is '
            f'the newest that is: {reasons}'
        )
    return newest


def lies_in(file: Path, folder: Path) -> bool:
    """Whether a file is in a folder itself."""
    return file.parent.resolve() == folder.resolve()


def keep_to_folder(info: dict, source: Path, folder: Path) -> list[str]:
    """Let what is noted of checkpoints mean files of this training's own folder.

    MMEngine removes the best checkpoint when there is a better one, and those that are
    too many, by the paths and numbers that it has noted.

    Args:
        info: ``runtime_info`` of the message hub in a checkpoint; is changed.
        source: The checkpoint.
        folder: Where the training saves.

    Returns:
        A line for each best checkpoint that stays with another training.
    """
    if not lies_in(source, folder):
        # Files and numbers of the same names would be of another training here.
        for key in [*info]:
            if key == 'keep_ckpt_ids' or key.startswith(('best_ckpt', 'last_ckpt')):
                del info[key]
    return [
        f'{best} is none: the file of {key} {info[key]:.6g} is not in {folder} and is '
        'left alone; the score is still the one to beat'
        for key in info
        if key.startswith('best_score')
        and (best := key.replace('score', 'ckpt', 1)) not in info
    ]
