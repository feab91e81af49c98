# PhotoShapes for I-JEPA and StoP, without validation. The crops are flipped, as for the
# other methods (photoshapes_96.py), where imagenet_224_ijepa.py has crops alone: what
# configs/stop/README.md reports was measured with flips.
_base_ = './photoshapes_96.py'

val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
