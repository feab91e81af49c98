"""Why a config cannot be read, and in which of its files."""

import importlib
import traceback
from pathlib import Path

import mmengine

# What reads configs and modules; a fault is in what they read.
READERS = (
    Path(mmengine.__file__).parent,
    Path(importlib.__file__).parent,
    Path(__file__).parent,
)


def fault(error: Exception) -> str:
    """What went wrong while a config was read, in a line with file and line number."""
    # Around what an import in custom_imports says, MMEngine lists sys.path.
    while isinstance(inner := error.__cause__ or error.__context__, ImportError):
        error = inner
    frames = [*traceback.walk_tb(error.__traceback__)]
    if isinstance(error, OSError):  # names its file
        return str(error)
    if isinstance(error, SyntaxError):
        # MMEngine parses a text without its name, which the functions around know.
        names = [str(frame.f_locals.get('filename')) for frame, _ in frames]
        files = [name for name in [*names, str(error.filename)] if Path(name).is_file()]
        place = f' ({files[-1]}, line {error.lineno})' if files else ''
        return f'{error.msg}{place}'
    message = str(error).strip().partition('\n')[0]
    what = f'{type(error).__name__}: {message}'
    places = [
        f'{frame.f_code.co_filename}, line {line}'
        for frame, line in frames
        if not any(map(Path(frame.f_code.co_filename).is_relative_to, READERS))
        and Path(frame.f_code.co_filename).is_file()  # and no '<frozen importlib>'
    ]
    return f'{what} ({places[-1]})' if places else what
