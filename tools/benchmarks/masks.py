"""What masks cost: ``python tools/benchmarks/masks.py [--batch-size 128]``.

Multi-block masks of I-JEPA and StoP are drawn on the CPU for every batch, since their
sizes decide the shapes of what follows; a step waits for them. Here they are beside the
masks of DropPos, an argsort of noise.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from mmpospretrain.models.positions import multiblock_ids, shuffle_ids

GRIDS = ((14, 14), (16, 16), (6, 6))


def milliseconds(draw: Callable[[], object], repeats: int) -> list[float]:
    """Times of single draws, after three that do not count."""
    times = []
    for _ in range(3 + repeats):
        start = time.perf_counter()
        draw()
        times.append(1000 * (time.perf_counter() - start))
    return times[3:]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description='Time the drawing of masks.')
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--repeats', type=int, default=200)
    args = parser.parse_args()
    torch.manual_seed(0)
    table = Table(
        'grid', 'masks', 'median ms', 'max ms', title=f'batch {args.batch_size}'
    )
    for rows, cols in GRIDS:
        multiblock = partial(
            multiblock_ids, args.batch_size, (rows, cols), min_context=4
        )
        shuffle = partial(shuffle_ids, args.batch_size, rows * cols)
        for name, draw in (('multi-block', multiblock), ('random', shuffle)):
            times = milliseconds(draw, args.repeats)
            cells = (f'{median(times):.2f}', f'{max(times):.2f}')
            table.add_row(f'{rows} x {cols}', name, *cells)
    Console().print(table)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads')


if __name__ == '__main__':
    main()
