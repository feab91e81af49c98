"""Script of test_train.py: ``python threads_left.py TOOL [ARGS...]``, under torchrun.

Runs a tool and prints the threads of gloo, before the process group is left and after,
and the wrapped models that still hold it when it is left.
"""

import gc
import os
import runpy
import sys
import time
from contextlib import suppress
from pathlib import Path

from torch import distributed

WRAPPER = 'MMDistributedDataParallel'


def gloo_threads() -> list[str]:
    names = []
    for thread in Path('/proc/self/task').glob('*/comm'):
        with suppress(OSError):  # it has just ended
            names.append(thread.read_text())
    return [name for name in names if 'gloo' in name]


def main() -> None:
    before, models, leave = [], [], distributed.destroy_process_group

    def leave_and_tell() -> None:
        before.extend(gloo_threads())
        models.extend(id(x) for x in gc.get_objects() if type(x).__name__ == WRAPPER)
        leave()

    distributed.destroy_process_group = leave_and_tell
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name='__main__')
    end = time.monotonic() + 2
    while gloo_threads() and time.monotonic() < end:
        time.sleep(0.1)  # one that has been joined may be listed for a moment
    # In one piece: the other process writes to the same terminal.
    left = f'{len(before)} then {len(gloo_threads())}, {len(models)} models'
    sys.stdout.write(f'rank {os.environ["RANK"]}: {left}\n')


if __name__ == '__main__':
    main()
