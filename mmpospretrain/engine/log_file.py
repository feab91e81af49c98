"""What MMEngine's log file lacks: what was said before it, and where it was said."""

import logging
import sys
from logging.handlers import MemoryHandler

from mmengine.logging import MMLogger

# It flushes when told to, not when it is full or an error comes.
_early = MemoryHandler(10_000, flushLevel=sys.maxsize, flushOnClose=False)


def keep_early_lines() -> None:
    """Remember what is logged before a run has a log file, as checks of data do."""
    _early.buffer.clear()
    MMLogger.get_current_instance().addHandler(_early)


def complete_log_file(logger: MMLogger) -> None:
    """Write the early lines into the log file of a run, and have all others say where
    they are from.
    """
    for other in MMLogger._instance_dict.values():
        other.removeHandler(_early)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            _early.setTarget(handler)
            _early.flush()
            _early.setTarget(None)
    logger.addFilter(name_the_caller)


def name_the_caller(record: logging.LogRecord) -> bool:
    """Filter by which a line of ``print_log`` says who has called that function."""
    if record.funcName == 'print_log':
        frame = sys._getframe()
        while frame.f_code.co_name != 'print_log':
            frame = frame.f_back
        caller = frame.f_back
        record.pathname = caller.f_code.co_filename
        record.funcName = caller.f_code.co_name
        record.lineno = caller.f_lineno
    return True
