"""What detectors, segmentors and classifiers say of an image, beside the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.structures import BaseDataElement

from .wording import plain

# Okabe and Ito's colours, which the colour-blind tell apart; background has none.
COLOURS = ('#e69f00', '#56b4e9', '#009e73', '#cc79a7', '#f0e442', '#0072b2', '#d55e00')


def plot_predictions(
    images: Sequence[np.ndarray],
    samples: Mapping[str, Sequence[BaseDataElement]],
    classes: Sequence[str],
) -> Figure:
    """Draw a row for each image: the truth, and what each model says.

    Of detections the best are drawn, as many as there are objects.

    Args:
        images: (H, W, 3) uint8, RGB.
        samples: Predictions on these images by the name of the model, as
            ``model.test_step`` returns them, with the truth inside.
        classes: Names.
    """
    columns = {'truth': (_draw_truth, next(iter(samples.values())))}
    columns |= {name: (_draw_prediction, found) for name, found in samples.items()}
    figure = Figure(
        figsize=(2.1 * len(columns), 2.1 * len(images) + 0.5), layout='constrained'
    )
    axes = figure.subplots(len(images), len(columns), squeeze=False)
    for column, (name, (draw, found)) in enumerate(columns.items()):
        axes[0, column].set_title(plain(name), fontsize=10)
        for axis, image, sample in zip(axes[:, column], images, found, strict=True):
            axis.imshow(image)
            axis.set_axis_off()
            draw(axis, sample, classes)
    shown = [name for name in classes if name != 'background']
    if len(shown) <= len(COLOURS):
        handles = [
            Rectangle((0, 0), 1, 1, color=COLOURS[k], label=plain(name))
            for k, name in enumerate(shown)
        ]
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=4,
            frameon=False,
            fontsize=9,
        )
    return figure


def _draw_truth(axis: Axes, sample: BaseDataElement, classes: Sequence[str]) -> None:
    if 'gt_sem_seg' in sample:
        _draw_map(axis, sample.gt_sem_seg.data[0].cpu().numpy(), classes)
    elif 'gt_instances' in sample:
        truth = sample.gt_instances
        masks = truth.masks.to_ndarray() if 'masks' in truth else None
        _draw_instances(axis, truth.bboxes, truth.labels, masks, classes)
    else:
        _draw_label(axis, int(sample.gt_label), classes)


def _draw_prediction(
    axis: Axes, sample: BaseDataElement, classes: Sequence[str]
) -> None:
    if 'pred_sem_seg' in sample:
        _draw_map(axis, sample.pred_sem_seg.data[0].cpu().numpy(), classes)
    elif 'pred_instances' in sample:
        found = sample.pred_instances
        found = found[found.scores.argsort(descending=True)]
        found = found[: len(sample.gt_instances)].cpu()
        masks = found.masks.numpy() if 'masks' in found else None
        _draw_instances(axis, found.bboxes, found.labels, masks, classes)
    else:
        _draw_label(axis, int(sample.pred_label), classes)


def _draw_map(axis: Axes, labels: np.ndarray, classes: Sequence[str]) -> None:
    first = int(classes[0] == 'background')
    for label in range(first, len(classes)):
        mask = labels == label
        _draw_mask(axis, mask, label - first)
        if mask.any():
            rows, columns = np.nonzero(mask)
            _name(axis, (np.median(columns), np.median(rows)), label, classes)


def _draw_instances(
    axis: Axes,
    boxes: np.ndarray,
    labels: np.ndarray,
    masks: np.ndarray | None,
    classes: Sequence[str],
) -> None:
    boxes = getattr(boxes, 'tensor', boxes)  # MMDetection's box types
    for index, ((x1, y1, x2, y2), label) in enumerate(zip(boxes, labels, strict=True)):
        colour = COLOURS[int(label) % len(COLOURS)]
        size = (float(x2 - x1), float(y2 - y1))
        axis.add_patch(
            Rectangle((float(x1), float(y1)), *size, fill=False, ec=colour, lw=1.5)
        )
        _name(axis, (float(x1), float(y1)), int(label), classes)
        if masks is not None:
            _draw_mask(axis, masks[index].astype(bool), int(label))


def _name(axis: Axes, place: tuple, label: int, classes: Sequence[str]) -> None:
    """Write the name of a class where there are more of them than colours."""
    if len(classes) > len(COLOURS) + 1:
        axis.text(*place, plain(classes[label]), fontsize=6, clip_on=True)


def _draw_mask(axis: Axes, mask: np.ndarray, label: int) -> None:
    overlay = np.zeros((*mask.shape, 4))
    overlay[mask] = (*to_rgb(COLOURS[label % len(COLOURS)]), 0.55)
    axis.imshow(overlay)


def _draw_label(axis: Axes, label: int, classes: Sequence[str]) -> None:
    axis.text(
        0.5,
        0.02,
        plain(classes[label]),
        transform=axis.transAxes,
        ha='center',
        fontsize=9,
        bbox=dict(facecolor=COLOURS[label % len(COLOURS)], alpha=0.9, edgecolor='none'),
    )
