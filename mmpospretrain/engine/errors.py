"""How a command ends: one line where a user can mend it, the traceback in the log.

An error is ours if a ``raise`` of this project made it: its message names the file or
the option, and what to do. All others were not foreseen. Their traceback is kept in the
log file of the work dir, whose path is in the last line, or shown where there is none.
"""

import dis
import gc
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType, TracebackType

import torch
from mmengine.dist import is_distributed
from mmengine.logging import MessageHub, MMLogger

from mmpospretrain.datasets import BrokenImagesError

from .log_file import keep_early_lines

ROOT = Path(__file__).resolve().parents[2]
OURS = (ROOT / 'mmpospretrain', ROOT / 'tools')
RAISE = dis.opmap['RAISE_VARARGS']
# PyTorch's report from a worker: the file whose ``raise`` it was, and the message.
WORKER = re.compile(
    r'^Caught [\s\S]*\n  File "(.+)", line \d+, in .*\n    raise .*\n(?:    .*\n)*'
    r'\w*(?:Error|Exception): ([\s\S]*)$'
)

# What libraries say where a user can mend it, and how.
ADVICE = {
    r'Expected more than 1 value per channel when training': (
        'BatchNorm cannot train on a single image: set train_dataloader.batch_size to '
        '2 or more, and where the last batch of an epoch holds one image '
        'train_dataloader.drop_last=True'
    ),
    r'need at least one array to concatenate': (
        'a data set is empty: its list or annotations name no image, or its '
        'filter_cfg leaves none'
    ),
    r'CUDA out of memory|CUDA error: out of memory': (
        'the GPU has too little memory: lower train_dataloader.batch_size and raise '
        'optim_wrapper.accumulative_counts as much, or use --amp'
    ),
    r"can't allocate memory|Cannot allocate memory|^MemoryError": (
        'this machine has too little memory: lower the batch_size or num_workers of '
        'the data loaders'
    ),
}


@contextmanager
def readable_errors() -> Iterator[None]:
    """Show what a user can mend as one line, and say where other tracebacks are.

    Ctrl-C and SIGTERM (Slurm) end with a line that says how to go on with a training.
    What ends well leaves its process group: no variable beside the ``with`` may hold a
    runner then.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may not be UTF-8
            stream.reconfigure(errors='backslashreplace')
    keep_early_lines()
    try:
        yield
        leave_process_group()
    except (KeyboardInterrupt, Exception) as error:
        if not _was_interrupted(error):
            sys.exit(explain(error))
        state = MessageHub.get_current_instance().runtime_info
        print(f'\ninterrupted{_way_on(state)}', file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # at once: data workers and process groups would linger


def explain(error: Exception) -> str:
    """The last line on the screen; what else is known of an error goes into the log."""
    text = ''.join(traceback.format_exception(error))
    log = _write_to_log(text)
    if (message := our_message(error)) is not None:
        return f'error: {message}'
    if log is None:
        print(text, file=sys.stderr)
    where = f'the traceback is {f"in {log}" if log else "above"}'
    summary = _summary(error)
    for pattern, advice in ADVICE.items():
        if re.search(pattern, summary):
            return f'error: {advice} ({summary}; {where})'
    return f'error: {summary}; {where}'


def our_message(error: Exception) -> str | None:
    """What an error says to the user, if a ``raise`` of this project made it.

    Errors that retell one of ours, as those of MMEngine's registries and of PyTorch's
    workers do, are ours, too.
    """
    message = str(error)
    if isinstance(error, BrokenImagesError):  # knows its message in a worker's
        return message
    if inner := re.search(WORKER, message):
        path, message = inner.groups()
        return message.strip() if _is_here(path) else None
    cause: BaseException | None = error
    while cause is not None:
        if (
            isinstance(cause, ValueError | TypeError | OSError | ArithmeticError)
            and _raised_here(cause.__traceback__)
            and str(cause) in message
        ):
            return message
        cause = cause.__cause__ or cause.__context__
    return None


def _raised_here(where: TracebackType | None) -> bool:
    """Whether the innermost frame of a traceback is at a ``raise`` of our own code.

    ``int('x')`` in our code is not foreseen, although the frame is ours.
    """
    if where is None:
        return False
    while where.tb_next is not None:
        where = where.tb_next
    code = where.tb_frame.f_code
    return code.co_code[where.tb_lasti] == RAISE and _is_here(code.co_filename)


def _is_here(path: str) -> bool:
    return any(Path(path).resolve().is_relative_to(folder) for folder in OURS)


def _summary(error: Exception) -> str:
    """Kind and message of an error, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and 'Original Traceback' in str(error):
        return lines[-1]  # PyTorch puts the traceback of a worker before its error
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _write_to_log(text: str) -> str | None:
    """Append a traceback to the log file of the run; None if there is no file."""
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.FileHandler):
            record = logging.makeLogRecord(
                dict(msg=text.rstrip(), levelno=logging.ERROR, levelname='ERROR')
            )
            handler.handle(record)
            return handler.baseFilename
    return None


def leave_process_group() -> None:
    """End the communication between processes, once no runner is in use any more.

    A thread of gloo that still drops a tensor while Python shuts down aborts the
    process, and torchrun then calls a training failed that has saved everything. The
    threads end with the last reference to the group, which wrapped models hold. After
    an error this would wait for processes that are not coming: then it isn't called.
    """
    if is_distributed():
        # Wrapped models first; runners and their hooks refer to each other. Were a
        # model the last to hold the group, it would wait for gloo's threads without
        # giving them Python's lock, which they may want: for ever.
        gc.collect()
        torch.distributed.destroy_process_group()


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error is an interruption, or what a library has made of one.

    MMEngine, for one, catches everything while it formats the config for a checkpoint.
    """
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _way_on(state: dict) -> str:
    """How to go on with a training that was interrupted, if it is one."""
    if state.get('loop_stage') not in ('train', 'val'):
        return ''
    last = state.get('last_ckpt')
    saved = f'the last checkpoint is {last}' if last else 'nothing was saved yet'
    return f'; {saved}. Go on with --resume'


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
