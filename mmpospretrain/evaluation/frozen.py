"""Classifiers over frozen features: nearest neighbours and logistic regression."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mmpospretrain.checks import check_at_least
from mmpospretrain.progress import track

from .features import Features

TEMPERATURE = 0.07  # of the votes of neighbours, as DINO's
INVERSE_STRENGTHS = [10.0**power for power in range(-5, 2)]  # C, the larger the weaker
CHUNK = 1024  # images classified by neighbours at once
HELD_OUT = 0.2  # of the training set, to choose among them


class Probe(NamedTuple):
    """Result of :func:`linear_probe`."""

    accuracy: float
    """Top-1 on the validation set, in percent."""
    strength: float
    """C that was chosen, scikit-learn's inverse regularisation."""

    @property
    def at_edge(self) -> bool:
        """Whether C is the first or the last of those tried: others may be better."""
        return self.strength in (INVERSE_STRENGTHS[0], INVERSE_STRENGTHS[-1])


def knn_accuracy(
    train: Features, val: Features, k: int = 20, title: str | None = None
) -> float:
    """Top-1 accuracy in percent of the k nearest by cosine, weighted by exp(cos / τ).

    Args:
        train: The neighbours.
        val: To be classified.
        k: How many neighbours vote.
        title: Of a progress bar; none without.

    Raises:
        ValueError: If there are fewer than ``k`` images to be near to.
    """
    check_neighbours('k', k, len(train.labels))
    # The largest weight is 1: exp(1 / τ) is beyond half of what float32 holds.
    classifier = KNeighborsClassifier(
        k, metric='cosine', weights=lambda distance: np.exp(-distance / TEMPERATURE)
    )
    classifier.fit(train.flat(), train.labels)
    values = val.flat()
    starts = range(0, len(values), CHUNK)
    found = [
        classifier.predict(values[start : start + CHUNK])
        for start in track(starts, title)
    ]
    return 100 * float(np.mean(np.concatenate(found) == val.labels))


def linear_probe(
    train: Features, val: Features, seed: int = 0, title: str | None = None
) -> Probe:
    """Logistic regression on standardised features.

    The regularisation is the best on a fifth of the training set, or an image of each
    class, which is given back before the last fit; the validation set has no say.

    Args:
        train: At least two images of each class.
        val: To be classified.
        seed: Of the split.
        title: Of a progress bar; none without.

    Raises:
        ValueError: If a class has a single training image.
    """
    check_two_of_each(train.labels)
    held_out = max(round(HELD_OUT * len(train.labels)), len({*train.labels.tolist()}))
    split = StratifiedShuffleSplit(1, test_size=held_out, random_state=seed)
    values, labels = train.flat(), train.labels
    ((learned, aside),) = split.split(values, labels)
    scores = {}
    for strength in track(INVERSE_STRENGTHS, title):
        classifier = _classifier(strength).fit(values[learned], labels[learned])
        scores[strength] = classifier.score(values[aside], labels[aside])
    best = max(scores, key=scores.get)
    classifier = _classifier(best).fit(values, labels)
    return Probe(100 * float(classifier.score(val.flat(), val.labels)), best)


def _classifier(strength: float) -> Pipeline:
    regression = LogisticRegression(C=strength, max_iter=1000)
    return make_pipeline(StandardScaler(), regression)


def chance(labels: np.ndarray) -> float:
    """Percent right of who always says the most frequent class.

    Args:
        labels: To be said, (M,).
    """
    counts = np.bincount(labels)
    return 100 * float(counts.max() / counts.sum())


def check_neighbours(name: str, k: int, images: int) -> None:
    """Raise a ValueError unless there are as many images as neighbours to ask for."""
    check_at_least(name, k, 1)
    if k > images:
        raise ValueError(
            f'{k} neighbours among {images} training images: ask for fewer'
        )


def check_two_of_each(labels: np.ndarray) -> None:
    """Raise a ValueError unless each class can be split: one to learn from, one aside.

    Args:
        labels: Of all training images, (M,).
    """
    label, count = min(Counter(labels.tolist()).items(), key=lambda x: x[1])
    if count < 2:
        raise ValueError(
            f'class {label} has a single training image, and choosing the '
            'regularisation needs two of each: ask for more labels'
        )


def choose_labels(labels: np.ndarray, wanted: str, seed: int = 0) -> np.ndarray:
    """Indices of the images whose labels may be used, ascending.

    Args:
        labels: Of all training images.
        wanted: ``'1%'``, ``'100%'``, or a number of images; of every class its share.
        seed: Of the choice.

    Raises:
        ValueError: If ``wanted`` is neither, more than there are, or less than the
            classes.
    """
    total, classes = len(labels), len(set(labels.tolist()))
    try:
        share = float(wanted[:-1]) / 100 if wanted.endswith('%') else None
        count = int(wanted) if share is None else round(share * total)
    except (ValueError, OverflowError):  # the latter of 'inf%'
        raise ValueError(
            f"labels are a number or a percentage such as '1%', got {wanted!r}"
        ) from None
    if not classes <= count <= total:
        raise ValueError(
            f'{wanted} of {total} labelled images are {count}; there must be at least '
            f'one for each of the {classes} classes, and at most {total}'
        )
    # Each class in random order, numbered from 0 to 1; the first of all come first.
    order = np.random.default_rng(seed).permutation(total)
    place = np.empty(total)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members] = np.arange(len(members)) / len(members)
    return np.sort(place.argsort(kind='stable')[:count])
