"""A chain of commands, its memory, and how it stops."""

import os
import signal
import threading
import time

import pytest

from mmpospretrain.engine.steps import Step, StepRunner


@pytest.fixture
def log(tmp_path):
    return tmp_path / 'log'


@pytest.fixture
def step(tmp_path, log):
    """Build a step that writes its name into the log, and then its output."""

    def build(name, code=''):
        folder = tmp_path / name
        script = (
            'import os\n'
            f'open({str(log)!r}, "a").write({name!r})\n'
            f'os.makedirs({str(folder)!r}, exist_ok=True)\n'
            f'{code}\n'
            f'open({str(folder / "done")!r}, "w")'
        )
        return Step(name, ['-c', script], folder, 'done')

    return build


@pytest.fixture
def runner(tmp_path):
    return lambda **settings: StepRunner(tmp_path / 'state.json', settings, tmp_path)


def test_runs_only_what_is_missing(runner, step, log, tmp_path):
    steps = [step(name) for name in 'abc']
    first = runner(size=(1, 2))
    first.run(steps)
    assert log.read_text() == 'abc'
    again = runner(size=(1, 2))
    again.run(steps)
    assert log.read_text() == 'abc'
    assert again.seconds(steps[0]) == first.seconds(steps[0]) > 0
    (tmp_path / 'b/done').unlink()
    (tmp_path / 'b/half').touch()
    (tmp_path / 'c/old').touch()
    runner(size=(1, 2)).run(steps)
    assert log.read_text() == 'abcbc'  # c was made from the former b
    assert (tmp_path / 'b/half').exists()
    assert not (tmp_path / 'c/old').exists()


def test_changed_command_starts_afresh(runner, step, log, tmp_path):
    runner().run([step(name) for name in 'abc'])
    (tmp_path / 'b/old').touch()
    runner().run([step('a'), step('b', 'pass'), step('c')])
    assert log.read_text() == 'abcbc'
    assert not (tmp_path / 'b/old').exists()


def test_foreign_folders_stay(runner, step, log, tmp_path):
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/done').touch()
    (tmp_path / 'b/precious').touch()
    runner().run([step('a'), step('b')])
    assert log.read_text() == 'ab'
    assert (tmp_path / 'b/precious').exists()


def test_failure_stops_the_chain(runner, step, log, tmp_path):
    broken = 'if not os.path.exists("mended"): raise SystemExit(3)'
    steps = [step('a'), step('b', broken), step('c')]
    with pytest.raises(ValueError, match='exit status 3'):
        runner().run(steps)
    assert log.read_text() == 'ab'
    (tmp_path / 'mended').touch()
    runner().run(steps)
    assert log.read_text() == 'abbc'


def test_time_adds_up_over_interruptions(runner, step, tmp_path):
    a = step('a', 'if not os.path.exists("mended"): raise SystemExit(3)')
    with pytest.raises(ValueError):
        runner().run([a])
    before = runner().seconds(a)
    (tmp_path / 'mended').touch()
    later = runner()
    later.run([a])
    assert later.seconds(a) > before > 0


def test_sigterm_reaches_the_step_as_ctrl_c(runner, step, tmp_path):
    mark, goodbye = tmp_path / 'mark', tmp_path / 'goodbye'
    patient = step(
        'a',
        'import time\n'
        'try:\n'
        f'    open({str(mark)!r}, "w")\n'
        '    time.sleep(60)\n'
        'except KeyboardInterrupt:\n'
        f'    open({str(goodbye)!r}, "w")\n'
        '    raise SystemExit(130)\n',
    )

    def stop_when_running():
        while not mark.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop_when_running, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        runner().run([patient])
    assert goodbye.exists()
    assert not (tmp_path / 'a/done').exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_settings(runner, step):
    runner(images=1).run([step('a')])
    with pytest.raises(ValueError, match='other arguments: give another --work-dir'):
        runner(images=2)


def test_command_is_quoted(tmp_path):
    step = Step('a', ['tools/train.py', 'a b'], tmp_path, 'done')
    assert step.command == "python tools/train.py 'a b'"
