# PhotoShapes for I-JEPA and StoP: see photoshapes_96.py; without validation.
_base_ = './photoshapes_96.py'

val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
