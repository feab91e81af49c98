"""Files that are whole at any moment, whenever the process dies."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


@register_backend('atomic', force=True)
class AtomicLocalBackend(LocalBackend):
    """MMEngine's local backend, but a file is replaced in one step.

    The local backend opens the old file for writing, so a kill during a save destroys
    the last good checkpoint. Configs ask for this one with
    ``default_hooks.checkpoint.backend_args=dict(backend='atomic')``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` beside ``filepath`` and, once on disk, move it there."""
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, as a rename is atomic only within one file system.
        descriptor, name = tempfile.mkstemp(
            prefix=f'.{target.name}.', dir=target.parent
        )
        try:
            with os.fdopen(descriptor, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())  # mkstemp's is for the owner alone
            os.replace(name, target)
        except BaseException:
            with suppress(FileNotFoundError):  # interrupted when it was moved already
                os.unlink(name)
            raise

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text as `put` does."""
        self.put(obj.encode(encoding), filepath)


def _umask() -> int:
    current = os.umask(0)  # the only way to read it is to set it
    os.umask(current)
    return current
