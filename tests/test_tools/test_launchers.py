"""The launch scripts pass every argument on unmangled.

Stubs stand in for ``python`` and ``srun``: they write down how they were called.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
STUB = f"""#!{sys.executable}
import json, os, sys
with open(os.environ['STUB_LOG'], 'w') as log:
    json.dump(dict(argv=sys.argv, env=dict(os.environ), pid=os.getpid()), log)
"""
# What a shell script mangles when it forgets its quotes.
AWKWARD = ['--cfg-options', 'a=[1, 2]', "b='x y'", 'c="$HOME *"', '', 'd=\\n']
LAUNCHER_VARIABLES = [
    'NNODES',
    'NODE_RANK',
    'MASTER_ADDR',
    'PORT',
    'PYTHON',
    'GPUS',
    'GPUS_PER_NODE',
    'CPUS_PER_TASK',
    'SRUN_ARGS',
    'MASTER_PORT',
    'PYTHONPATH',
]

pytestmark = pytest.mark.skipif(
    shutil.which('bash') is None, reason='the launchers are bash scripts'
)


@pytest.fixture
def launch(tmp_path):
    """Return ``launch(script, *args, **env)``, which runs it in an empty directory."""
    stubs, cwd, log = tmp_path / 'bin', tmp_path / 'else where', tmp_path / 'log.json'
    stubs.mkdir()
    cwd.mkdir()
    (cwd / '--exclude=node1').touch()  # a pattern in SRUN_ARGS must not become this
    for name in ('python', 'srun', 'my python'):
        (stubs / name).write_text(STUB)
        (stubs / name).chmod(0o755)

    def run(script, *args, **env):
        inherited = {k: v for k, v in os.environ.items() if k not in LAUNCHER_VARIABLES}
        process = subprocess.Popen(
            ['bash', str(TOOLS / script), *args],
            cwd=cwd,
            env={
                **inherited,
                'PATH': f'{stubs}{os.pathsep}{os.environ["PATH"]}',
                'STUB_LOG': str(log),
                **env,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        process.stderr_text = process.communicate(timeout=30)[1]
        process.called = json.loads(log.read_text()) if log.exists() else None
        return process

    return run


def arguments(process):
    """Check that the program ran, and return its name and arguments."""
    assert process.returncode == 0, process.stderr_text
    program, *args = process.called['argv']
    return [Path(program).name, *args]


TORCHRUN = ['python', '-m', 'torch.distributed.run']


def test_dist_train(launch):
    process = launch('dist_train.sh', 'my configs/a b.py', '2', *AWKWARD)
    assert arguments(process) == [
        *TORCHRUN,
        '--standalone',
        '--nproc_per_node=2',
        str(TOOLS / 'train.py'),
        'my configs/a b.py',
        '--launcher',
        'pytorch',
        *AWKWARD,
    ]


def test_dist_test(launch):
    process = launch('dist_test.sh', 'c.py', 'work dirs/epoch 1.pth', '8', *AWKWARD)
    assert arguments(process) == [
        *TORCHRUN,
        '--standalone',
        '--nproc_per_node=8',
        str(TOOLS / 'test.py'),
        'c.py',
        'work dirs/epoch 1.pth',
        '--launcher',
        'pytorch',
        *AWKWARD,
    ]


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh'])
def test_several_machines(launch, script):
    args = ['c.py', '8'] if script == 'dist_train.sh' else ['c.py', 'c.pth', '8']
    env = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='node0', PORT='1234')
    assert arguments(launch(script, *args, **env))[3:8] == [
        '--nnodes=2',
        '--node_rank=1',
        '--master_addr=node0',
        '--master_port=1234',
        '--nproc_per_node=8',
    ]


def test_defaults_of_several_machines(launch):
    process = launch('dist_train.sh', 'c.py', '8', NNODES='2', MASTER_ADDR='node0')
    assert arguments(process)[4:7] == [
        '--node_rank=0',
        '--master_addr=node0',
        '--master_port=29500',
    ]


def test_a_port_asked_for_is_the_port_taken(launch):
    process = launch('dist_train.sh', 'c.py', '1', PORT='1234')
    assert arguments(process)[3:7] == [
        '--nnodes=1',
        '--node_rank=0',
        '--master_addr=127.0.0.1',
        '--master_port=1234',
    ]


def test_slurm_train(launch):
    process = launch('slurm_train.sh', 'my part', 'job 1', 'c d.py', 'w d', *AWKWARD)
    assert arguments(process) == [
        'srun',
        '--partition=my part',
        '--job-name=job 1',
        '--ntasks=8',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--gres=gpu:8',
        '--ntasks-per-node=8',
        'python',
        '-u',
        str(TOOLS / 'train.py'),
        'c d.py',
        '--work-dir=w d',
        '--launcher=slurm',
        *AWKWARD,
    ]


def test_slurm_test(launch):
    process = launch(
        'slurm_test.sh',
        'part',
        'job',
        'c.py',
        'c d.pth',
        *AWKWARD,
        GPUS='16',
        GPUS_PER_NODE='4',
        CPUS_PER_TASK='2',
        SRUN_ARGS='--time=1:00:00  --exclude=node[1-3]',
    )
    assert arguments(process) == [
        'srun',
        '--partition=part',
        '--job-name=job',
        '--ntasks=16',
        '--cpus-per-task=2',
        '--kill-on-bad-exit=1',
        '--gres=gpu:4',
        '--ntasks-per-node=4',
        '--time=1:00:00',
        '--exclude=node[1-3]',
        'python',
        '-u',
        str(TOOLS / 'test.py'),
        'c.py',
        'c d.pth',
        '--launcher=slurm',
        *AWKWARD,
    ]


@pytest.mark.parametrize(
    ('env', 'resources'),
    [
        (dict(GPUS='2', GPUS_PER_NODE='0'), []),
        (dict(GPUS='2'), ['--gres=gpu:2', '--ntasks-per-node=2']),
        (dict(GPUS='32'), ['--gres=gpu:8', '--ntasks-per-node=8']),
    ],
)
def test_slurm_resources(launch, env, resources):
    called = arguments(launch('slurm_train.sh', 'p', 'j', 'c.py', 'w', **env))
    assert f'--ntasks={env["GPUS"]}' in called
    assert called[
        called.index('--kill-on-bad-exit=1') + 1 : called.index('python')
    ] == (resources)


def test_slurm_tasks_share_one_port(launch):
    args = ['slurm_train.sh', 'p', 'j', 'c.py', 'w']
    assert 20000 <= int(launch(*args).called['env']['MASTER_PORT']) < 32768
    assert launch(*args, MASTER_PORT='4').called['env']['MASTER_PORT'] == '4'


@pytest.mark.parametrize('script', ['dist_train.sh', 'slurm_train.sh'])
def test_interpreter_and_path(launch, script):
    args = ['c.py', '2', 'x', 'x']  # enough for both
    process = launch(script, *args, PYTHON='my python', PYTHONPATH='/other')
    assert 'my python' in arguments(process)
    assert 'python' not in arguments(process)
    search_path = process.called['env']['PYTHONPATH'].split(os.pathsep)
    assert search_path == [str(TOOLS.parent), '/other']


@pytest.mark.parametrize('script', ['dist_train.sh', 'slurm_train.sh'])
def test_signals_reach_the_launcher(launch, script):
    """The program takes the place of the shell: same process id."""
    process = launch(script, 'c.py', '2', 'x', 'x')
    assert process.called['pid'] == process.pid


@pytest.mark.parametrize(
    ('script', 'args', 'env', 'message'),
    [
        ('dist_train.sh', ['c.py'], {}, 'dist_train.sh CONFIG GPUS'),
        ('dist_test.sh', ['c.py', '2'], {}, 'dist_test.sh CONFIG CHECKPOINT GPUS'),
        ('slurm_train.sh', ['p', 'j', 'c.py'], {}, 'JOB_NAME CONFIG WORK_DIR'),
        ('slurm_test.sh', ['p', 'j', 'c.py'], {}, 'JOB_NAME CONFIG CHECKPOINT'),
        ('dist_train.sh', ['2', 'c.py'], {}, "GPUS must be .* got 'c.py'"),
        ('slurm_test.sh', ['p', 'j', 'c', 'k'], {'GPUS': '0'}, "GPUS must .* '0'"),
        ('dist_train.sh', ['c', '2'], {'NNODES': '2'}, 'NNODES=2 needs MASTER_ADDR'),
    ],
)
def test_usage(launch, script, args, env, message):
    process = launch(script, *args, **env)
    assert process.returncode == 2
    assert process.called is None
    assert re.search(message, process.stderr_text)
