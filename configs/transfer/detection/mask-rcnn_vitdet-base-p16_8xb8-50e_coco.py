# Mask R-CNN on COCO, ViT-B/16: PosField's recipe for 50 epochs, all else in proportion.
_base_ = './mask-rcnn_vitdet-base-p16_8xb8-22k_coco.py'

max_iters = 1844 * 50
train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(
    end=max_iters, milestones=[19667 * 50 // 12, 21306 * 50 // 12]
)
