"""The packages around this one: which stack is installed, and is it fit for use.

MMEngine, MMCV, MMPretrain, MMDetection and MMSegmentation come from one of two
families with the same import names: the forks that OneDL maintains, and the original
OpenMMLab releases. Both in one environment overwrite each other's files.

The top level needs the standard library only: ``tools/install.sh`` runs this file as a
script before anything is installed.
"""

import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module, metadata
from io import StringIO

# Import name: (distributions that carry it, oldest version known to work).
STACKS = {
    'onedl': {
        'mmengine': (('onedl-mmengine',), '0.10.12'),
        'mmcv': (('onedl-mmcv',), '2.3.6'),
        'mmpretrain': (('onedl-mmpretrain',), '1.3.6'),
        'mmdet': (('onedl-mmdetection',), '3.5.1'),
        'mmseg': (('onedl-mmsegmentation',), '1.4.2'),
    },
    'openmmlab': {
        'mmengine': (('mmengine', 'mmengine-lite'), '0.10.7'),
        'mmcv': (('mmcv', 'mmcv-lite'), '2.1.0'),
        'mmpretrain': (('mmpretrain',), '1.2.0'),
        'mmdet': (('mmdet',), '3.3.0'),
        'mmseg': (('mmsegmentation',), '1.2.2'),
    },
}
# Those that pre-training cannot do without; mmdet and mmseg serve the transfer only.
REQUIRED = ('mmengine', 'mmcv', 'mmpretrain')
OLDEST_TORCH = '2.6'  # its `safe_globals` takes the names of foreign NumPy versions
BREAKING_TRANSFORMERS = '5'  # imported by MMPretrain where pycocotools is, too


@dataclass(frozen=True)
class Problem:
    """Something that keeps the package from working, and what to do about it."""

    what: str
    way_out: str

    def __str__(self) -> str:
        return f'{self.what}\n    way out: {self.way_out}'


class EnvironmentProblem(RuntimeError):
    """The installed packages cannot be used.

    Not an ``ImportError``: MMEngine swallows those when it imports a scope's registry.
    """


def version_of(*distributions: str) -> str | None:
    """Version of the first of ``distributions`` that is installed, else None."""
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def installed_stacks() -> list[str]:
    """The stacks of which at least one distribution is installed."""
    return [
        stack
        for stack, packages in STACKS.items()
        if any(version_of(*distributions) for distributions, _ in packages.values())
    ]


def is_older(version: str, oldest: str) -> bool:
    """Compare release numbers; ``2.13.0+cu130`` counts as 2.13.0."""

    def release(text: str) -> list[int]:
        return [int(number) for number in re.findall(r'\d+', text.partition('+')[0])]

    return release(version) < release(oldest)


def find_problems() -> list[Problem]:
    """All that keeps the package from working here; imports nothing, never raises."""
    stacks = installed_stacks()
    if not stacks:
        return [
            Problem(
                'neither the OneDL nor the OpenMMLab packages are installed',
                'run tools/install.sh, or tools/install.sh --stack openmmlab',
            )
        ]
    if len(stacks) > 1:
        return [
            Problem(
                f'the environment holds both stacks, {" and ".join(stacks)}, which '
                'overwrite each other',
                'make a fresh environment: tools/install.sh --venv DIR',
            )
        ]
    (stack,) = stacks
    wanted = {STACKS[stack][module] for module in REQUIRED}
    problems = []
    for distributions, oldest in sorted({*wanted, (('torch',), OLDEST_TORCH)}):
        version = version_of(*distributions)
        if version is None:
            what = f'{distributions[0]} is not installed'
        elif is_older(version, oldest):
            what = f'{distributions[0]} {version} is older than {oldest}'
        else:
            continue
        fix = f'run tools/install.sh --stack {stack}, which installs tested versions'
        if distributions == ('torch',) and version:  # install.sh keeps a torch
            fix = 'make a fresh environment: tools/install.sh --venv DIR'
        problems.append(Problem(what, fix))
    version = version_of('transformers')
    breaks = version and not is_older(version, BREAKING_TRANSFORMERS)
    if breaks and version_of('pycocotools'):
        problems.append(
            Problem(
                f'transformers {version} makes MMPretrain fail at its import',
                f"pip install 'transformers<{BREAKING_TRANSFORMERS}'",
            )
        )
    return problems


def require() -> None:
    """Check the environment.

    Raises:
        EnvironmentProblem: Names everything that is wrong, each with its way out.
    """
    problems = find_problems()
    if problems:
        raise EnvironmentProblem(
            'mmpospretrain cannot work in this environment:\n'
            + '\n'.join(f'  - {problem}' for problem in problems)
            + '\nThe whole picture: python -m mmpospretrain.doctor'
        )


def prepare() -> None:
    """Set right in MMEngine what our use of it needs; the one place where we do."""
    from mmengine.config.utils import MODULE2PACKAGE

    if installed_stacks() == ['onedl']:
        # MMEngine looks for the distribution `mmsegmentation`, which the fork is not;
        # by its import name it finds it. All `mmseg::` bases depend on this line.
        MODULE2PACKAGE['mmseg'] = 'mmseg'
        # It prints that it lacks its vendor's data sets, which looks like a broken
        # installation and is no answer to a command that somebody reads with $( ).
        said = StringIO()
        with redirect_stdout(said):
            import_module('mmpretrain.datasets')
        others = said.getvalue().replace('Could not import OneDL\n', '')
        print(others, end='', file=sys.stderr)
    from mmpospretrain.zoo.loading import register_loaders

    register_loaders()
    import_module('mmpospretrain.zoo.safe_files')  # registers itself


if __name__ == '__main__':
    print(*installed_stacks())
