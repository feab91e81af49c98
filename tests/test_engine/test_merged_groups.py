"""Few groups of parameters, each trained as in a group of its own."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

ROOT = Path(__file__).parents[2] / 'configs'
OPTIMIZER = dict(type='AdamW', lr=0.01, weight_decay=0.1)
PARAMWISE = dict(
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    custom_keys={'2': dict(lr_mult=3.0), '3': dict(lr_mult=3.0, betas=[0.5, 0.6])},
)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
    )


def wrap(model: nn.Module, **cfg) -> OptimWrapper:
    cfg.update(optimizer=OPTIMIZER, paramwise_cfg=PARAMWISE)
    return build_optim_wrapper(model, cfg)


def settings(model: nn.Module, wrapper: OptimWrapper) -> dict[str, dict]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: {k: v for k, v in group.items() if k != 'params'}
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }


def test_settings_are_those_of_mmengine():
    model = small_model()
    one_each = wrap(model)
    merged = wrap(model, constructor='mmpospretrain.MergedGroupsConstructor')
    assert settings(model, merged) == settings(model, one_each)
    assert len(one_each.optimizer.param_groups) == 8
    # With decay; without; twice with another rate, once of them with other betas.
    assert len(merged.optimizer.param_groups) == 4


def test_training_is_that_of_mmengine():
    trained = []
    for options in ({}, dict(constructor='mmpospretrain.MergedGroupsConstructor')):
        model = small_model()
        wrapper = wrap(model, **options)
        for step in range(3):
            batch = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
            wrapper.update_params(model(batch).square().sum())
        trained.append(model.state_dict())
    torch.testing.assert_close(*trained, rtol=0, atol=0)


def test_without_options():
    """MMEngine then leaves the parameters to the optimizer."""
    model = small_model()
    cfg = dict(constructor='mmpospretrain.MergedGroupsConstructor', optimizer=OPTIMIZER)
    (group,) = build_optim_wrapper(model, cfg).optimizer.param_groups
    assert len(group['params']) == len([*model.parameters()])


@pytest.mark.parametrize(
    'path',
    [
        'droppos/droppos_vit-tiny-p16_photoshapes.py',
        'mp3/mp3_vit-tiny-p16_photoshapes.py',
        'stop/stop_vit-tiny-p16_photoshapes.py',
        'posfield/posfield_vit-tiny-p16_photoshapes.py',
    ],
)
def test_pre_trainings_have_three_groups(path):
    """With weight decay; without, as norms and biases; without, by ``custom_keys``."""
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    assert sorted(group['weight_decay'] > 0 for group in groups) == [False, False, True]
