"""What the tools share."""

from pathlib import Path

import pytest

from mmpospretrain.engine.cli import load_config

CONFIG = (
    Path(__file__).parents[2] / 'configs/droppos/droppos_vit-tiny-p16_photoshapes.py'
)


def test_load_config():
    cfg = load_config(str(CONFIG), {'model.mask_ratio': 0.5})
    assert cfg.model.mask_ratio == 0.5
    with pytest.raises(ValueError, match=r"model\.mask_ratoi.*'mask_ratio'"):
        load_config(str(CONFIG), {'model.mask_ratoi': 0.5})


def test_load_config_of_another_library():
    cfg = load_config('mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py')
    assert cfg.model.type == 'MAE'


def test_no_config():
    with pytest.raises(FileNotFoundError, match=r"no config 'nowhere\.py'"):
        load_config('nowhere.py')
