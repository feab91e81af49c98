"""The config inside a checkpoint is read as MMEngine writes it, and is not run."""

import pytest
from mmengine.config import Config

from mmpospretrain.zoo.trained_config import backbone_options, model_options


def checkpoint(text: str) -> dict:
    return {'meta': {'cfg': text}}


def test_as_mmengine_writes_it():
    """Keys that are no names, and dicts in lists, included."""
    model = dict(
        type='A',
        backbone=dict(arch=dict(embed_dims=8), img_size=(64, 96), init_cfg=None),
        stages=[dict(depth=1), dict(depth=2)],
        names={'a.b': 1, 'c': -2.5},
        by_index={0: 1},
    )
    text = Config(dict(model=model, lr=1)).pretty_text
    assert model_options(checkpoint(text)) == model
    assert backbone_options(checkpoint(text)) == model['backbone']


def test_what_is_no_plain_value_is_left_out(tmp_path):
    trace = tmp_path / 'trace'
    text = (
        f"x = open({str(trace)!r}, 'w')\n"
        f"model = dict(a=1, b=open({str(trace)!r}, 'w'), c=dict(d=x, e=[2]), **x)\n"
    )
    assert model_options(checkpoint(text)) == dict(a=1, c=dict(e=[2]))
    assert not trace.exists()


@pytest.mark.parametrize(
    'content',
    [
        {},
        {'meta': None},
        {'meta': {}},
        checkpoint('model = '),
        checkpoint('model = 5'),
        checkpoint('model = build(a=1)'),
        checkpoint('model = dict([1])'),
        checkpoint('lr = 1'),
        checkpoint('model = dict(backbone=None)'),
    ],
)
def test_no_config(content):
    assert backbone_options(content) == {}
