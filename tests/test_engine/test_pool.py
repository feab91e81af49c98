"""Jobs run side by side, once, and stop together."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mmpospretrain.engine.pool import LOG, Job, JobPool

# Notes when it starts and ends, and leaves a result.
SCRIPT = """
import json, os, sys, time
folder, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
print('threads', os.environ['OMP_NUM_THREADS'], flush=True)
with open(folder + '/../log', 'a') as log:
    log.write(f'start {os.path.basename(folder)}\\n')
time.sleep(seconds)
if code:
    sys.exit('it went wrong')
with open(folder + '/result.json', 'w') as file:
    json.dump(dict(metrics={}, seconds=seconds), file)
with open(folder + '/../log', 'a') as log:
    log.write(f'end {os.path.basename(folder)}\\n')
"""


@pytest.fixture
def job(tmp_path):
    def build(name: str, seconds: float = 0.0, code: int = 0) -> Job:
        folder = tmp_path / name
        arguments = ('-c', SCRIPT, str(folder), str(seconds), str(code))
        return Job(name, arguments, folder, length=10, unit='iter')

    return build


def events(tmp_path: Path) -> list[str]:
    return (tmp_path / 'log').read_text().splitlines()


def test_one_after_the_other(job, tmp_path):
    JobPool(1, tmp_path).run([job('a'), job('b')])
    assert events(tmp_path) == ['start a', 'end a', 'start b', 'end b']
    assert job('a').read() == dict(metrics={}, seconds=0.0)


def test_two_at_once_share_the_cores(job, tmp_path, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'cpu_count', lambda: 6)
    JobPool(2, tmp_path).run([job('a', 2), job('b', 2), job('c')])
    assert set(events(tmp_path)[:2]) == {'start a', 'start b'}
    assert 'threads 3' in (tmp_path / 'a' / LOG).read_text()


def test_a_second_run_does_nothing(job, tmp_path, capsys):
    jobs = [job('a'), job('b')]
    JobPool(2, tmp_path).run(jobs[:1])
    JobPool(2, tmp_path).run(jobs)
    JobPool(2, tmp_path).run(jobs)
    assert events(tmp_path).count('start a') == 1
    assert '2 of 2 trainings were through already' in capsys.readouterr().out


def test_a_failure_shows_its_log_and_stops_the_others(job, tmp_path):
    with pytest.raises(ValueError, match=r'(?s)bad failed with .* 1\..*it went wrong'):
        JobPool(2, tmp_path).run([job('good', 60), job('bad', 0, 1), job('later')])
    assert 'end good' not in events(tmp_path)
    assert 'start later' not in events(tmp_path)


def test_success_without_a_result_is_a_failure(tmp_path):
    silent = Job('silent', ('-c', 'pass'), tmp_path / 'silent', 1, 'iter')
    with pytest.raises(ValueError, match='silent failed with exit status 0'):
        JobPool(1, tmp_path).run([silent])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_all(job, tmp_path, number, request):
    def interrupt():
        while not (tmp_path / 'log').exists() or len(events(tmp_path)) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    # Where tests run in the background, Python leaves SIGINT ignored, as it found it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, handler))
    threading.Thread(target=interrupt, daemon=True).start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        JobPool(2, tmp_path).run([job('a', 60), job('b', 60)])
    assert time.monotonic() - before < 50
    assert not [line for line in events(tmp_path) if line.startswith('end')]
    JobPool(2, tmp_path).run([job('a'), job('b')])
    assert job('a').result.exists()


def test_progress_by_the_log_of_mmengine(job):
    training = job('a')
    assert training.progress() == 0
    for run, last in (('1', 4), ('2', 7)):
        folder = training.folder / run / 'vis_data'
        folder.mkdir(parents=True)
        lines = [
            dict(loss=1.0, iter=last, epoch=2, step=last),
            dict(mIoU=3.0, step=90),
        ]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    assert training.progress() == 7


def test_no_workers(tmp_path):
    with pytest.raises(ValueError, match='at least 1 job at once, got 0'):
        JobPool(0, tmp_path)
