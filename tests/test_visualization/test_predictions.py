"""Predictions are drawn where they are."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from mmpospretrain.visualization import plot_predictions, plot_seeds

IMAGE = np.full((8, 10, 3), 90, np.uint8)


def overlays(axis) -> list[np.ndarray]:
    """Alpha of what lies over the image."""
    return [image.get_array()[..., 3] for image in axis.images[1:]]


def test_segmentation():
    truth, found = torch.zeros(2, 1, 8, 10, dtype=torch.long)
    truth[:, 2:4, 5:7] = 1
    found[:, 6, 0] = 2
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=found)
    )
    classes = ('background', 'circle', 'square')
    figure = plot_predictions([IMAGE], {'ours': [sample], 'scratch': [sample]}, classes)
    left, middle, right = figure.axes
    assert [a.get_title() for a in figure.axes] == ['truth', 'ours', 'scratch']
    circle, square = overlays(left)
    assert np.array_equal(circle > 0, truth[0] == 1)
    assert not square.any()
    for axis in (middle, right):
        circle, square = overlays(axis)
        assert not circle.any()
        assert np.array_equal(square > 0, found[0] == 2)
    assert [t.get_text() for t in figure.legends[0].texts] == ['circle', 'square']


def test_detection():
    mask = np.zeros((1, 8, 10), bool)
    mask[0, 1:3, 2:6] = True
    boxes = torch.tensor([[2.0, 1.0, 6.0, 3.0], [0.0, 0.0, 9.0, 7.0]])
    sample = DetDataSample(
        gt_instances=InstanceData(
            bboxes=boxes[:1],
            labels=torch.tensor([1]),
            masks=BitmapMasks(mask.astype(np.uint8), 8, 10),
        ),
        pred_instances=InstanceData(
            bboxes=boxes,
            labels=torch.tensor([0, 1]),
            scores=torch.tensor([0.2, 0.1]),
            masks=torch.from_numpy(np.concatenate([mask, ~mask])),
        ),
    )
    figure = plot_predictions([IMAGE], {'ours': [sample]}, ('circle', 'square'))
    for axis in figure.axes:
        (box,) = axis.patches  # one object: the better detection
        assert box.get_bbox().bounds == (2.0, 1.0, 4.0, 2.0)
        (overlay,) = overlays(axis)
        assert np.array_equal(overlay > 0, mask[0])
    colours = [axis.patches[0].get_edgecolor() for axis in figure.axes]
    assert colours[0] != colours[1]


def test_classification():
    sample = DataSample().set_gt_label(1).set_pred_label(0)
    figure = plot_predictions([IMAGE] * 2, {'ours': [sample] * 2}, ('circle', 'square'))
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [['square'], ['circle']] * 2


def test_more_classes_than_colours_are_named():
    truth = torch.zeros(1, 8, 10, dtype=torch.long)
    truth[:, 2:5, 4:9] = 19
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=truth)
    )
    classes = ('background', *(f'class {k}' for k in range(1, 30)))
    figure = plot_predictions([IMAGE], {'ours': [sample]}, classes)
    assert not figure.legends
    for axis in figure.axes:
        (text,) = axis.texts
        assert text.get_text() == 'class 19'
        assert text.get_position() == (6, 3)


def test_seeds_and_their_mean():
    figure = plot_seeds({'ours': [{1: 2.0, 2: 4.0}, {1: 4.0, 2: 8.0}]}, 'epoch', 'mIoU')
    first, second, mean = figure.axes[0].lines
    assert list(first.get_ydata()) == [2, 4]
    assert list(second.get_ydata()) == [4, 8]
    assert list(mean.get_ydata()) == [3, 6]
    assert mean.get_linewidth() > first.get_linewidth()
