"""The folder where what was fetched, or found out at length, is kept for next time."""

import os
from pathlib import Path

import pooch


def cache_dir() -> Path:
    """The folder, ``MMPOSPRETRAIN_CACHE`` if that is set; it may not exist yet."""
    folder = os.environ.get('MMPOSPRETRAIN_CACHE') or pooch.os_cache('mmpospretrain')
    return Path(folder).expanduser()
