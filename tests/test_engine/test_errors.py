"""How commands end: one line for the user's mistakes, the traceback of others kept."""

import logging
import math
import re
import runpy
import signal
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import Registry
from torch import nn
from torch.utils.data import DataLoader

from mmpospretrain.checks import check_at_least, check_choice
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.models.positions import to_grid_size
from mmpospretrain.zoo.loading import load_checkpoint_file


@pytest.fixture(autouse=True)
def handler_of_sigterm():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def log(tmp_path):
    """The log file of a run."""
    path = tmp_path / 'run.log'
    logger = MMLogger.get_instance(tmp_path.name, log_file=str(path))
    yield path
    MMLogger._instance_dict.pop(tmp_path.name)
    for handler in logger.handlers:
        handler.close()


def ending(action):
    with pytest.raises(SystemExit) as end, readable_errors():
        action()
    return end.value.code


def of_a_worker(error):
    """A loader whose worker ends so."""

    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            error()

    next(iter(DataLoader(Broken(), num_workers=1)))


REGISTRY = Registry('test')


@REGISTRY.register_module()
class Picky:
    def __init__(self, ratio):
        check_at_least('ratio', ratio, 0)


@pytest.mark.parametrize(
    ('action', 'words'),
    [
        (lambda: check_at_least('k', -1, 0), 'k must be at least 0, got -1'),
        (lambda: check_choice('rule', 'x', 'ab'), "rule must be one of ('a', 'b')"),
        (lambda: load_checkpoint_file('no.pth'), 'no checkpoint at no.pth'),
        (lambda: REGISTRY.build(dict(type='Picky', ratio=-2)), 'at least 0, got -2'),
        (lambda: of_a_worker(lambda: check_at_least('k', -1, 0)), 'k must be at least'),
    ],
    ids=['range', 'choice', 'file', 'registry', 'worker'],
)
def test_ours_are_one_line(action, words, log):
    line = ending(action)
    assert line.startswith('error: ')
    assert words in line
    assert 'traceback' not in line
    assert '\n' not in line
    assert 'Traceback (most recent call last)' in log.read_text()


@pytest.mark.parametrize(
    ('action', 'summary'),
    [
        (lambda: int('x'), "ValueError: invalid literal for int() with base 10: 'x'"),
        (lambda: math.sqrt(-1), 'ValueError: math domain error'),
        (lambda: dict()['type'], "KeyError: 'type'"),
        (lambda: [][0], 'IndexError: list index out of range'),
        (
            lambda: Path('none.txt').read_text(),
            'FileNotFoundError: [Errno 2]',
        ),
        (lambda: to_grid_size(None, 16), 'TypeError: '),  # in our code, by Python
        (lambda: of_a_worker(lambda: int('y')), 'ValueError: invalid literal'),
    ],
    ids=['int', 'math', 'key', 'index', 'file', 'ours by Python', 'worker'],
)
def test_others_keep_their_traceback(action, summary, log, capsys):
    line = ending(action)
    assert line.startswith(f'error: {summary}')
    assert line.endswith(f'; the traceback is in {log}')
    text = log.read_text()
    assert 'Traceback (most recent call last)' in text
    assert summary.partition(': ')[2] in text
    assert 'Traceback' not in capsys.readouterr().err


def test_without_a_log_file_the_traceback_is_shown(monkeypatch, capsys):
    logger = MMLogger('bare')
    monkeypatch.setattr(MMLogger, 'get_current_instance', lambda: logger)
    line = ending(lambda: dict()['type'])
    assert line == "error: KeyError: 'type'; the traceback is above"
    assert 'Traceback (most recent call last)' in capsys.readouterr().err
    assert not [h for h in logger.handlers if isinstance(h, logging.FileHandler)]


@pytest.mark.parametrize(
    ('action', 'advice'),
    [
        (
            lambda: nn.BatchNorm2d(4)(torch.zeros(1, 4, 1, 1)),
            'train_dataloader.batch_size to 2 or more, .*train_dataloader.drop_last',
        ),
        (
            lambda: nn.BatchNorm1d(4)(torch.zeros(1, 4)),
            'train_dataloader.batch_size to 2 or more, .*train_dataloader.drop_last',
        ),
        (
            lambda: nn.SyncBatchNorm(4)(torch.zeros(1, 4, 1, 1)),
            'train_dataloader.batch_size to 2 or more',
        ),
        (lambda: torch.cat([torch.zeros(1)] * 2 + [memory()]), 'too little memory'),
    ],
    ids=['2d', '1d', 'sync', 'memory'],
)
def test_what_is_known_of_libraries_comes_with_advice(action, advice, log):
    line = ending(action)
    assert line.startswith('error: ')
    assert re.search(advice, line), line
    assert f'the traceback is in {log})' in line


def memory():
    raise MemoryError('Cannot allocate memory')


def test_errors_of_a_users_own_module_are_not_ours(tmp_path, log):
    (tmp_path / 'mine.py').write_text("raise ValueError('my own')\n")
    line = ending(lambda: runpy.run_path(str(tmp_path / 'mine.py')))
    assert line == f'error: ValueError: my own; the traceback is in {log}'


def test_an_error_while_ours_is_handled_is_another(log):
    def action():
        try:
            check_at_least('k', -1, 0)
        except ValueError:
            dict()['lost']

    assert ending(action).startswith("error: KeyError: 'lost'; the traceback")
