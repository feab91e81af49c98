"""Several classifiers as one, by the average of their outputs (Sec. 4.2.3 of MP3).

Letters: n images, C classes.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import DataLoader

from mmpospretrain.progress import track

AVERAGES = ('logits', 'probabilities')


class Contents(NamedTuple):
    """What a loader reads, in its order."""

    classes: list[str]
    """Names; empty if the data set has none."""
    images: list[str]
    """Path and label of each image; its number where it has no path."""


def contents(loader: DataLoader) -> Contents:
    """What a loader is about to read; no image is opened."""
    dataset = loader.dataset
    images = []
    for info in map(dataset.get_data_info, loader.sampler):
        name = info.get('img_path', info['sample_idx'])
        images.append(f'{name}, label {np.array(info.get("gt_label")).tolist()}')
    return Contents([*(dataset.metainfo.get('classes') or ())], images)


def check_same(one: Contents, other: Contents, names: tuple[str, str]) -> None:
    """See that two models, of these ``names``, are asked the same.

    Raises:
        ValueError: If classes or images differ; shows the first that do.
    """
    for kind, *lists in zip(Contents._fields, one, other, strict=True):
        if kind == 'classes' and not all(lists):
            continue  # labels and images say enough
        for number, pair in enumerate(zip_longest(*lists, fillvalue='none')):
            if len({*pair}) > 1:
                shown = map('\n    {}: {}'.format, names, pair)
                raise ValueError(
                    f'an ensemble needs the same {kind} in the same order; those with '
                    f'number {number}, counted from 0, differ:{"".join(shown)}'
                )


def check_classifier(model: BaseModel, name: str) -> None:
    """See that a model predicts the softmax of what it computes.

    Raises:
        ValueError: If not: if it finds several labels, or is no classifier at all.
    """
    head = type(getattr(model, 'head', None))
    if getattr(head, 'predict', None) is not ClsHead.predict:
        raise ValueError(
            f'{name}: a {type(model).__name__} with head {head.__name__} has no logits '
            'of classes that exclude each other; only such can be averaged'
        )


@torch.no_grad()
def predict_logits(
    model: BaseModel, loader: DataLoader, title: str
) -> tuple[Tensor, list[DataSample]]:
    """Run a classifier over a data set.

    Args:
        model: In evaluation mode.
        loader: Of the images, as the model wants them.
        title: Of the progress bar.

    Returns:
        Logits (n, C) float32 on the CPU, and the data samples as they were loaded.
    """
    logits, samples = [], []
    for batch in track(loader, title):
        # Copies: preprocessors move labels to the device, and add one-hot ones.
        samples += [sample.clone() for sample in batch['data_samples']]
        inputs = model.data_preprocessor(batch)['inputs']
        logits.append(model(inputs, mode='tensor').float().cpu())
    return torch.cat(logits), samples


def average_scores(
    logits: Sequence[Tensor], weights: Sequence[float], average: str = 'logits'
) -> Tensor:
    """Probabilities (n, C) of an ensemble.

    Args:
        logits: Of every model (n, C).
        weights: One for each model; only their proportions matter.
        average: What is averaged: ``logits``, before the softmax, or ``probabilities``.
    """
    late = average == 'logits'
    outputs = [x if late else x.softmax(dim=1) for x in logits]
    mean = sum(w / sum(weights) * x for w, x in zip(weights, outputs, strict=True))
    return mean.softmax(dim=1) if late else mean


def evaluate_scores(
    evaluator: Evaluator, samples: Sequence[DataSample], probabilities: Tensor
) -> dict[str, Any]:
    """Metrics of probabilities (n, C), as plain values.

    The probabilities stay in the data samples.
    """
    for sample, scores in zip(samples, probabilities, strict=True):
        sample.set_pred_score(scores)
        sample.set_pred_label(scores.argmax(dim=0, keepdim=True))
    metrics = evaluator.offline_evaluate(samples)
    return {
        name: value.tolist() if hasattr(value, 'tolist') else value
        for name, value in metrics.items()
    }
