"""tools/install.sh where it can fail, without network: what it says, what it leaves.

The whole of it runs in .ci/run; here its functions meet doctored environments.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / 'tools/install.sh'
COMMANDS = 'bash dirname realpath ls df awk rm mkdir cat sed mktemp tail nproc setsid'


def run(*command, path=None, **env):
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in ('VIRTUAL_ENV', 'CONDA_PREFIX', 'PYTHON', 'CXX', 'PYTHONPATH')
    }
    if path:
        clean['PATH'] = str(path)
    return subprocess.run(
        ['bash', *map(str, command)],
        capture_output=True,
        text=True,
        env={**clean, **env},
        timeout=120,
    )


def call(function, **env):
    """Call functions of the script, in a shell that has sourced it."""
    return run('-c', f'source {SCRIPT}; {function}', **env)


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/usr/bin/env bash\n{text}\n')
    path.chmod(0o755)


@pytest.fixture
def bin_dir(tmp_path):
    """A PATH with the few tools that the script needs, and no Python."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in COMMANDS.split():
        (folder / name).symlink_to(shutil.which(name))
    return folder


@pytest.fixture
def venv(tmp_path):
    """An empty environment; ``venv(name, version)`` gives it a distribution."""
    folder = tmp_path / 'venv'
    command = [sys.executable, '-m', 'venv', '--without-pip', folder]
    subprocess.run(command, check=True)
    (site,) = folder.glob('lib/python*/site-packages')

    def add(name, version='1.0'):
        info = site / f'{name.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        text = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
        (info / 'METADATA').write_text(text)
        return folder

    add.folder = folder
    return add


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--stack', 'mmlab'], "--stack is onedl or openmmlab, not 'mmlab'"),
        (['--venv'], '--venv needs a value'),
        (['--stak', 'onedl'], 'unknown argument: --stak'),
    ],
)
def test_arguments(arguments, message):
    result = run(SCRIPT, *arguments)
    assert result.returncode == 1
    assert message in result.stderr


def test_help_is_the_header():
    result = run(SCRIPT, '--help')
    assert result.returncode == 0
    for option in ('--stack', '--venv', '--extras', '--no-ops', 'MAX_JOBS'):
        assert option in result.stdout
    assert 'set -e' not in result.stdout


def test_old_python(bin_dir, tmp_path):
    script(bin_dir / 'python3', 'echo Python 3.9.2; [[ $1 == -V ]]')
    result = run(SCRIPT, '--venv', tmp_path / 'new', path=bin_dir)
    assert result.returncode == 1
    assert 'no Python 3.10 or later: python3 is Python 3.9.2' in result.stderr
    assert 'apt-get install' in result.stderr
    assert not (tmp_path / 'new').exists()


def test_a_newer_python_on_the_path_is_taken(bin_dir):
    script(bin_dir / 'python3', 'exit 1')
    (bin_dir / 'python3.11').symlink_to(sys.executable)
    result = call('find_python', PATH=str(bin_dir))
    assert result.stdout.strip() == str(bin_dir / 'python3.11')


def test_full_disk(bin_dir, tmp_path):
    (bin_dir / 'python3').symlink_to(sys.executable)
    (bin_dir / 'df').unlink()
    script(bin_dir / 'df', 'echo header; echo /dev/x 9 9 5000000 99% /')
    result = run(SCRIPT, '--venv', tmp_path / 'new', path=bin_dir)
    assert result.returncode == 1
    assert '5 GB free' in result.stderr
    assert not (tmp_path / 'new').exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').touch()
    result = run(SCRIPT, '--venv', tmp_path)
    assert result.returncode == 1
    assert 'is no Python environment' in result.stderr
    assert os.listdir(tmp_path) == ['thesis.tex']


def test_both_stacks(venv):
    venv('mmengine')
    result = run(SCRIPT, '--venv', venv('onedl-mmcv'))
    assert result.returncode == 1
    assert 'holds both stacks, onedl and openmmlab' in result.stderr


def test_the_other_stack(venv):
    result = run(SCRIPT, '--stack', 'onedl', '--venv', venv('mmengine'))
    assert result.returncode == 1
    assert 'holds the openmmlab stack, which cannot live beside onedl' in result.stderr
    assert '--stack openmmlab' in result.stderr


def test_the_stack_that_is_there_is_kept(venv):
    show = 'choose_environment; choose_stack; echo $stack'
    assert call(f'venv={venv.folder}; {show}').stdout.strip() == 'onedl'
    venv('mmpretrain')
    assert call(f'venv={venv.folder}; {show}').stdout.strip() == 'openmmlab'


@pytest.mark.parametrize(
    ('env', 'chosen'),
    [
        ({'VIRTUAL_ENV': '{venv}', 'CONDA_PREFIX': '/conda'}, '{venv}'),
        ({'CONDA_PREFIX': '{venv}', 'CONDA_DEFAULT_ENV': 'work'}, '{venv}'),
    ],
)
def test_the_active_environment_is_taken(venv, env, chosen):
    env = {key: value.format(venv=venv.folder) for key, value in env.items()}
    result = call('choose_environment; echo $venv', **env)
    assert result.stdout.strip() == chosen.format(venv=venv.folder)


def test_no_compiler(venv):
    result = call(f'py={sys.executable}; check_compiler cpu', CXX='no-such-compiler')
    assert result.returncode == 1
    assert 'no C++ compiler' in result.stderr
    assert 'apt-get install g++' in result.stderr
    assert '--no-ops' in result.stderr


@pytest.mark.parametrize(
    ('online', 'message'),
    [('false', 'the package index does not answer'), ('true', 'this command failed')],
)
def test_failing_installer(online, message):
    result = call(f'online() {{ {online}; }}; fetch false')
    assert result.returncode == 1
    assert message in result.stderr


# Stands in for `python -m pip wheel`: reports like ninja, then writes a wheel or fails.
FAKE_BUILD = """
if [[ "$*" == *'pip wheel'* ]]; then
    echo '  [1/2] c++ roi.cpp'; sleep 3; echo '  [2/2] c++ nms.cpp'
    while [[ $1 != --wheel-dir ]]; do shift; done
    mkdir -p "$2" && cd "$2" && mkdir mmcv && touch mmcv/$CONTENT mmcv/z{1..2000}.h
    "$REAL" -m zipfile -c mmcv-2.1.0.whl mmcv && rm -r mmcv
    exit "$STATUS"
fi
exec "$REAL" "$@"
"""


@pytest.fixture
def build(tmp_path):
    python, target = tmp_path / 'fake-python', tmp_path / 'cache/wheels/key'
    script(python, FAKE_BUILD)

    def run_build(content='_ext.so', status=0):
        return target, call(
            f'py={python}; online() {{ true; }}; build_mmcv mmcv==2.1.0 {target}',
            REAL=sys.executable,
            MMPOSPRETRAIN_CACHE=str(tmp_path / 'cache'),
            CONTENT=content,
            STATUS=str(status),
        )

    return run_build


def test_build_moves_a_whole_wheel_into_the_cache(build):
    target, result = build()
    assert result.returncode == 0, result.stderr
    assert os.listdir(target) == ['mmcv-2.1.0.whl']
    assert re.search(r'0:0\d  1 of 2 files', result.stdout)
    assert sorted(os.listdir(target.parents[1])) == ['logs', 'wheels']


@pytest.mark.parametrize(
    ('outcome', 'message'),
    [
        ({'content': 'ops.py'}, 'the wheel of mmcv==2.1.0 has no compiled ops'),
        ({'status': 1}, 'building mmcv==2.1.0 failed'),
    ],
)
def test_failed_build_leaves_no_wheel(build, outcome, message):
    target, result = build(**outcome)
    assert result.returncode == 1
    assert message in result.stderr
    assert f'{target.name}.log' in result.stderr
    assert not target.exists()
    assert sorted(os.listdir(target.parents[1])) == ['logs', 'wheels']
