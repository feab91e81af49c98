"""``python -m mmpospretrain.doctor``: is this environment fit, and if not, what to do.

Exit code 0 if pre-training works here, else 1.
"""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mmpospretrain import __version__, environment

OK, WARNING, FAILURE = 'ok', 'warning', 'failure'
STYLES = {OK: 'green', WARNING: 'yellow', FAILURE: 'bold red'}
BASES = {  # one real config of each library that ours inherit from
    'mmpretrain': 'mmpretrain::_base_/default_runtime.py',
    'mmdet': 'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmseg': 'mmseg::_base_/models/upernet_r50.py',
}
FREE_GB = 5  # checkpoints of ViT-B with its optimizer are 1 GB each


@dataclass(frozen=True)
class Finding:
    """One line of the table; anything but OK comes with its way out."""

    subject: str
    status: str
    detail: str
    way_out: str = ''


def examine() -> list[Finding]:
    """Look at everything; a check that breaks is a finding, not an error."""
    checks = [check_packages, check_device, check_ops, check_configs, check_disk]
    return [finding for check in checks for finding in _guarded(check)]


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:
        subject = check.__name__.removeprefix('check_')
        what = f'{type(error).__name__}: {error}'
        yield Finding(subject, FAILURE, what, 'run tools/install.sh again')


def check_packages() -> Iterator[Finding]:
    """Python, the stack, and the version of every package that matters."""
    detail = f'{__version__} on Python {platform.python_version()}'
    yield Finding('mmpospretrain', OK, detail)
    problems = environment.find_problems()
    for problem in problems:
        yield Finding('environment', FAILURE, problem.what, problem.way_out)
    stacks = environment.installed_stacks()
    if not problems:
        yield Finding('stack', OK, stacks[0])
    for name in ('torch', 'torchvision', 'timm', 'numpy'):
        if version := environment.version_of(name):
            yield Finding(name, OK, version)
    for stack in stacks:
        for module, (distributions, oldest) in environment.STACKS[stack].items():
            yield from _check_package(stack, module, distributions, oldest)


def _check_package(
    stack: str, module: str, distributions: tuple[str, ...], oldest: str
) -> Iterator[Finding]:
    version = environment.version_of(*distributions)
    if version and not environment.is_older(version, oldest):
        yield Finding(module, OK, f'{version} ({distributions[0]})')
    elif module not in environment.REQUIRED:  # the others are problems, see above
        what = f'{version}, older than {oldest}' if version else 'not installed'
        fix = f'needed for the transfer only: tools/install.sh --stack {stack}'
        yield Finding(module, WARNING, what, fix)


def check_device() -> Iterator[Finding]:
    """What PyTorch will compute on."""
    import torch

    if torch.cuda.is_available():
        names = [
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        ]
        detail = f'{len(names)} GPU: {", ".join(sorted(set(names)))}'
    else:
        detail = f'CPU, {os.cpu_count()} cores'
    yield Finding('device', OK, detail)


def check_ops() -> Iterator[Finding]:
    """Whether mmcv has the compiled ops that detection is built on."""
    try:
        import mmcv.ops  # noqa: F401
    except ImportError as error:
        yield Finding(
            'mmcv ops',
            WARNING,
            f'not compiled ({error})',
            'pre-training works without; for detection and segmentation run '
            'tools/install.sh (without --no-ops)',
        )
    else:
        yield Finding('mmcv ops', OK, 'compiled')


def check_configs() -> Iterator[Finding]:
    """Whether configs can inherit from those of the three libraries."""
    from mmengine import Config

    for module, base in BASES.items():
        with tempfile.TemporaryDirectory() as folder:
            heir = Path(folder, 'heir.py')
            heir.write_text(f'_base_ = [{base!r}]\n')
            try:
                Config.fromfile(heir)
            except Exception as error:
                status = FAILURE if module in environment.REQUIRED else WARNING
                fix = 'run tools/install.sh'
                yield Finding(f'{module}:: configs', status, str(error), fix)
            else:
                yield Finding(f'{module}:: configs', OK, 'found')


def check_disk() -> Iterator[Finding]:
    """Room for checkpoints in the current folder."""
    free = shutil.disk_usage('.').free / 1e9
    status = OK if free >= FREE_GB else FAILURE
    fix = '' if status == OK else 'free some, or give --work-dir on a larger disk'
    yield Finding('free disk', status, f'{free:.0f} GB in {Path.cwd()}', fix)


def show(findings: list[Finding]) -> None:
    """Print the table and, below it, the ways out."""
    troubles = [finding for finding in findings if finding.status != OK]
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:  # the environment is as broken as that
        for finding in findings:
            print(f'{finding.status:8} {finding.subject}: {finding.detail}')
        for finding in troubles:
            print(f'{finding.subject}: {finding.way_out}')
        return
    table = Table('', '', '', title='mmpospretrain doctor', show_header=False)
    for finding in findings:
        status = Text(finding.status, STYLES[finding.status])
        table.add_row(finding.subject, status, Text(finding.detail))
    console = Console()
    console.print(table)
    for finding in troubles:
        name = Text(f'{finding.subject}: ', STYLES[finding.status])
        console.print(name + Text(finding.way_out))


def main() -> int:
    """Examine, show, and return the exit code."""
    findings = examine()
    show(findings)
    return int(any(finding.status == FAILURE for finding in findings))


if __name__ == '__main__':
    sys.exit(main())
