"""What is on the screen before the first iteration, and what is in the file."""

import logging
from pathlib import Path

import pytest

from mmpospretrain.engine import PretrainRunner
from mmpospretrain.engine.start_summary import is_short


def record(level, message):
    return logging.LogRecord('mmengine', level, __file__, 1, message, None, None)


@pytest.mark.parametrize(
    ('level', 'lines', 'shown'),
    [
        (logging.INFO, 1, True),
        (logging.INFO, 5, True),
        (logging.INFO, 6, False),
        (logging.DEBUG, 300, False),
        (logging.WARNING, 300, True),
        (logging.ERROR, 6, True),
    ],
)
def test_what_the_screen_shows(level, lines, shown):
    assert is_short(record(level, '\n'.join(['line'] * lines))) == shown


@pytest.fixture
def screen_and_file(tiny_config, capsys):
    """Of a training that is built, up to its first iteration."""

    def start(**options):
        cfg = tiny_config(**options)
        runner = PretrainRunner.from_cfg(cfg)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.call_hook('before_run')
        (log,) = Path(cfg.work_dir).glob('*/*.log')
        return capsys.readouterr().out, log.read_text()

    return start


def test_a_summary_on_the_screen_and_all_in_the_file(screen_and_file):
    screen, file = screen_and_file(**{'optim_wrapper.accumulative_counts': 2})
    assert len(screen.splitlines()) <= 30
    for text in ('Config:\n', 'System environment', 'Hooks will be executed'):
        assert text in file
        assert text not in screen
    for text in (
        'model: DropPos with PositionViT, ',
        ' epochs, ',
        'optimizer: AdamW, learning rate ',
        'batch: 8 = 4 per process x 1 processes x 2 accumulated',
        'train data: 24 images of ImageFolder',
        'device: 1 x ',
        'work dir: ',
        'log file: ',
    ):
        assert text in screen
        assert text in file


def test_long_messages_are_shown_once_it_runs(tiny_config, capsys):
    runner = PretrainRunner.from_cfg(tiny_config())
    long = '\n'.join(['a table of results'] * 9)
    runner.logger.info(long)
    assert 'a table' not in capsys.readouterr().out
    runner.call_hook('before_run')
    runner.logger.info(long)
    assert capsys.readouterr().out.count('a table') == 9
