"""Tools as functions."""

import runpy
import signal
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    """Run a tool in this process; returns its error, or None."""
    # MMEngine's global objects, and the tools' SIGTERM, are left as they were. A tool
    # must not take what a training in another test has noted for its own.
    monkeypatch.setattr(MessageHub, '_instance_dict', OrderedDict())
    scopes = DefaultScope._instance_dict.copy()
    monkeypatch.setattr(DefaultScope, '_instance_dict', scopes)
    handler = signal.getsignal(signal.SIGTERM)

    def run(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        try:
            runpy.run_path(str(TOOLS / name), run_name='__main__')
        except SystemExit as error:
            return error.code

    yield run
    signal.signal(signal.SIGTERM, handler)
