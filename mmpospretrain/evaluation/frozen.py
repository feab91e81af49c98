"""Classifiers over frozen features: nearest neighbours and logistic regression."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmpospretrain.checks import check_at_least

from .features import Features

TEMPERATURE = 0.07  # of the votes of neighbours, as DINO's
INVERSE_STRENGTHS = [10.0**power for power in range(-5, 2)]  # C, the larger the weaker
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


def knn_accuracy(train: Features, val: Features, k: int = 20) -> float:
    """Top-1 accuracy in percent of the k nearest by cosine, weighted by exp(cos / τ).

    Raises:
        ValueError: If there are fewer than ``k`` images to be near to.
    """
    check_neighbours('k', k, len(train.labels))
    # The largest weight is 1: exp(1 / τ) is beyond half of what float32 holds.
    classifier = KNeighborsClassifier(
        k, metric='cosine', weights=lambda distance: np.exp(-distance / TEMPERATURE)
    )
    classifier.fit(train.flat(), train.labels)
    return 100 * float(classifier.score(val.flat(), val.labels))


def linear_probe(train: Features, val: Features, seed: int = 0) -> Probe:
    """Logistic regression on standardised features.

    The regularisation is the best on a fifth of the training set, or an image of each
    class, which is given back before the last fit; the validation set has no say.

    Args:
        train: At least two images of each class.
        val: To be classified.
        seed: Of the split.

    Raises:
        ValueError: If a class has a single training image.
    """
    check_two_of_each(train.labels)
    held_out = max(round(HELD_OUT * len(train.labels)), len({*train.labels.tolist()}))
    split = StratifiedShuffleSplit(1, test_size=held_out, random_state=seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    name = 'logisticregression__C'
    search = GridSearchCV(classifier, {name: INVERSE_STRENGTHS}, cv=split)
    search.fit(train.flat(), train.labels)
    accuracy = 100 * float(search.score(val.flat(), val.labels))
    return Probe(accuracy, float(search.best_params_[name]))


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
