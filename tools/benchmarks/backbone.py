"""Time and memory of detection backbones: ``python tools/benchmarks/backbone.py``.

Our ViTDet beside MMPretrain's ViTSAM, which computes the same: one forward and backward
pass over noise, by default 1024², batch 1, ViT-B, global attention everywhere. Their
steps alternate, so that a busy machine slows both, and each runs in a process of its
own, so that neither sees the other's memory.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from mmpretrain.models import ViTSAM
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timing import compare, interleave, resident_mib, summarize

from mmpospretrain.models import ViTDet

WORKER: dict = {}  # what a process has built


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Compare ViTDet with ViTSAM.')
    parser.add_argument('--arch', choices=['base', 'large', 'huge'], default='base')
    parser.add_argument('--size', type=int, default=1024, help='of the images (1024)')
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument(
        '--window-size', type=int, default=0, help='0 (default): global attention'
    )
    parser.add_argument('--rel-pos', action='store_true', help='relative positions')
    parser.add_argument('--with-cp', action='store_true', help='checkpoint ViTDet')
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write figures here')
    return parser.parse_args()


def build(name: str, args: argparse.Namespace) -> None:
    """Build a backbone and a batch in this process."""
    resident = resident_mib('VmRSS')
    torch.manual_seed(0)
    if name == 'ViTDet':
        backbone = ViTDet(
            arch=args.arch,
            img_size=args.size,
            window_size=args.window_size,
            rel_pos=args.rel_pos,
            with_cp=args.with_cp,
            final_norm=False,
        )
    else:
        arch = ViTSAM.arch_zoo[args.arch]
        if not args.window_size:
            arch = dict(arch, global_attn_indexes=list(range(arch['num_layers'])))
        backbone = ViTSAM(
            arch=arch,
            img_size=args.size,
            window_size=args.window_size,
            use_rel_pos=args.rel_pos,
            out_channels=0,
        )
    backbone.to(args.device).train()
    images = torch.randn(args.batch_size, 3, args.size, args.size, device=args.device)
    WORKER.update(
        backbone=backbone, images=images, resident=resident, device=args.device
    )


def step() -> float:
    """Seconds of one forward and backward pass."""
    synchronize()
    start = time.perf_counter()
    WORKER['backbone'](WORKER['images'])[-1].sum().backward()
    synchronize()
    WORKER['backbone'].zero_grad()
    return time.perf_counter() - start


def peak() -> float:
    """MiB: allocated on the GPU, or what the process grew by since its imports."""
    if WORKER['device'] == 'cuda':
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_mib('VmHWM') - WORKER['resident']


def synchronize() -> None:
    """Wait for the GPU, if there is one at work."""
    if WORKER['device'] == 'cuda':
        torch.cuda.synchronize()


def main() -> None:
    """Measure, print, and write the figures."""
    args = parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('error: --device cuda: torch sees no GPU')
    names = ['ViTSAM', 'ViTDet']
    pools = [
        ProcessPoolExecutor(1, get_context('spawn'), build, (name, args))
        for name in names
    ]
    times = interleave(
        [lambda pool=pool: pool.submit(step).result() for pool in pools],
        track(range(args.warmup + args.steps), 'timing', transient=True),
        args.warmup,
    )
    memory = [pool.submit(peak).result() for pool in pools]
    for pool in pools:
        pool.shutdown()

    ratios = compare(*times) | dict(memory=memory[1] / memory[0])
    table = Table('backbone', 's / step', 'min', 'max', 'peak MiB')
    for name, seconds, mib in zip(names, times, memory, strict=True):
        figures = summarize(seconds, args.batch_size)
        cells = [f'{figures[key]:.3f}' for key in ('median', 'min', 'max')]
        table.add_row(name, *cells, f'{mib:.0f}')
    console = Console()
    console.print(table)
    console.print(
        f'ViTDet / ViTSAM: time {ratios["median_of_ratios"]:.2f}, memory '
        f'{ratios["memory"]:.2f}  (torch {torch.__version__}, '
        f'{torch.get_num_threads()} threads)'
    )
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != 'json'}
        figures = dict(zip(names, times, strict=True))
        report = dict(
            settings=settings,
            seconds=figures,
            peak_mib=dict(zip(names, memory, strict=True)),
            ratios=ratios,
        )
        args.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
