"""The log file of a run has what was said before it, and where errors were said."""

import logging
from pathlib import Path

from mmengine.logging import print_log

from mmpospretrain.engine import PretrainRunner
from mmpospretrain.engine.log_file import keep_early_lines

EARLY = {
    '4 boxes are left out': logging.INFO,
    '2 maps have no image': logging.WARNING,
    'cannot read café.jpg': logging.ERROR,
}


def start(cfg) -> str:
    runner = PretrainRunner.from_cfg(cfg)
    print_log('said by a library', logger=runner.logger, level=logging.ERROR)
    say('said later')
    (log,) = Path(cfg.work_dir).glob('*/*.log')
    return log.read_text()


def say(text, level=logging.ERROR):
    print_log(text, logger='current', level=level)


def test_early_lines_are_in_the_file_of_their_run(tiny_config):
    keep_early_lines()
    say('of a command that failed')
    keep_early_lines()
    for text, level in EARLY.items():
        say(text, level)
    log = start(tiny_config())
    places = [log.index(text) for text in [*EARLY, 'said later']]
    assert places == sorted(places)
    assert all(log.count(text) == 1 for text in [*EARLY, 'said later'])
    assert 'of a command that failed' not in log


def test_errors_say_who_said_them(tiny_config):
    log = start(tiny_config())
    for function, text in (('start', 'said by a library'), ('say', 'said later')):
        (line,) = (line for line in log.splitlines() if line.endswith(text))
        assert f'{Path(__file__).name} - {function} - ' in line
    assert ' - print_log - ' not in log
