"""Frozen features of labelled images, for linear probes and nearest neighbours.

Letters: B images of a batch, M images in all, L layers, D embedding width.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmpretrain.datasets import BaseDataset
from mmpretrain.models import VisionTransformer
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmpospretrain.checks import check_at_least
from mmpospretrain.datasets import ImageFolder
from mmpospretrain.datasets.broken_images import MAX_BROKEN_SHARE
from mmpospretrain.datasets.class_folders import check_same_names
from mmpospretrain.datasets.image_source import read_list
from mmpospretrain.models import PositionViT
from mmpospretrain.progress import track
from mmpospretrain.zoo.loading import compare_weights
from mmpospretrain.zoo.saving import save_safetensors


class Features(NamedTuple):
    """What a frozen backbone makes of labelled images."""

    values: np.ndarray
    """(M, L, D) float32."""
    labels: np.ndarray
    """(M,) int64."""

    def select(self, layers: slice) -> 'Features':
        """Some of the layers."""
        return self._replace(values=self.values[:, layers])

    def flat(self) -> np.ndarray:
        """(M, L·D): the layers side by side."""
        return self.values.reshape(len(self.values), -1)


def frozen_encoder(backbone: nn.Module) -> PositionViT:
    """The backbone whose features are evaluated: itself, or a copy of MMPretrain's ViT.

    Raises:
        ValueError: If it is no such ViT.
    """
    if isinstance(backbone, PositionViT):
        return backbone
    if not isinstance(backbone, VisionTransformer):
        raise ValueError(
            f'frozen features are those of a ViT, this is a {type(backbone).__name__}'
        )
    rows, _ = backbone.patch_resolution
    encoder = PositionViT(
        arch=backbone.arch_settings,
        img_size=tuple(backbone.img_size),
        patch_size=backbone.img_size[0] // rows,
        with_cls_token=backbone.cls_token is not None,
    )
    weights = backbone.state_dict()
    if differences := compare_weights(encoder.state_dict(), weights):
        raise ValueError(
            f'a {type(backbone).__name__} is no plain ViT, whose features these would '
            f'be.\n{differences}'
        )
    encoder.load_state_dict(weights)
    return encoder.to(backbone.pos_embed.device)


def extract_features(
    backbone: PositionViT,
    preprocessor: nn.Module,
    dataset: Dataset,
    layers: Sequence[int],
    batch_size: int = 64,
    num_workers: int = 2,
    title: str | None = None,
) -> Features:
    """Features of all images of a data set that can be read.

    What a data set puts in the place of another image is left out: it would count
    twice, and could stand on both sides of a split.

    Args:
        backbone: Left in the mode that it was in.
        preprocessor: Normalises; on the device of the backbone.
        dataset: With labels; its pipeline ends with ``PackInputs``.
        layers: Their numbers from 0, ascending; -1 is what goes into the first, patch
            embeddings with their positions.
        batch_size: Images at once.
        num_workers: Processes that read images.
        title: Of a progress bar; none without.

    Returns:
        M images in the order of the data set.

    Raises:
        BrokenImagesError: If more are broken than the data set allows.
    """
    # PyTorch's own: MMEngine's samplers share images among processes, and here one
    # process may be at work alone.
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=default_collate,
    )
    training = backbone.training
    backbone.eval()
    values, samples = [], []
    try:
        for batch in track(loader, title):
            batch = preprocessor(batch)
            with torch.no_grad():
                features = _pooled(backbone, batch['inputs'], layers)
            values.append(torch.stack(features, dim=1).float().cpu().numpy())
            samples += batch['data_samples']
    finally:
        backbone.train(training)
    labels = np.array([int(sample.gt_label) for sample in samples])
    read = [s.get('sample_idx', index) == index for index, s in enumerate(samples)]
    return Features(np.concatenate(values)[read], labels[read])


def _pooled(
    backbone: PositionViT, images: Tensor, layers: Sequence[int]
) -> tuple[Tensor, ...]:
    """As :meth:`PositionViT.pooled`; -1 is the input of the first layer."""
    features = backbone.pooled(images, [layer for layer in layers if layer >= 0])
    if -1 not in layers:
        return features
    patches, grid_size = backbone.patchify(images)
    patches = backbone.pre_norm(patches + backbone.patch_positions(grid_size))
    return backbone.ln1(patches).mean(1), *features


def labelled_images(
    source: Path,
    pipeline: list[dict],
    like: ImageFolder | None = None,
    max_broken_share: float = MAX_BROKEN_SHARE,
) -> ImageFolder:
    """A labelled data set.

    Args:
        source: Folder with a folder for each class; or a text file with a path and a
            class number in each line, the paths from the folder of the file or from the
            one above.
        pipeline: Transforms of an image that is read, to packed inputs.
        like: Data set whose classes this one must have.
        max_broken_share: As of :class:`ImageFolder`.

    Raises:
        FileNotFoundError: If there is no such source, or no folder or image in it.
        ValueError: If the classes differ, or a label is negative or missing.
    """
    if source.is_file():
        first, _ = read_list(str(source))[0]
        roots = (source.parent, source.parent.parent)
        root = next((root for root in roots if (root / first).is_file()), None)
        if root is None:
            raise FileNotFoundError(
                f'{source}: there is no image {first!r} in {roots[0]} or {roots[1]}; '
                'lines are "path label", paths from one of these folders'
            )
        where = dict(data_root=str(root), ann_file=str(source.resolve()))
    elif source.is_dir():
        where = dict(data_root=str(source))
        if not any(path.is_dir() for path in source.iterdir()):
            raise FileNotFoundError(
                f'{source} has no folders: it needs one for each class, such as '
                'DIR/n01440764/image.jpg'
            )
    else:
        raise FileNotFoundError(f'there is no folder or file {str(source)!r}')
    dataset = ImageFolder(
        **where, with_label=True, pipeline=pipeline, max_broken_share=max_broken_share
    )
    dataset.broken.option = '--max-broken-share'
    check_at_least(f'every label in {source}', min(labels_of(dataset)), 0)
    if like:
        check_same_classes(like, dataset, str(source))
    return dataset


def check_same_classes(train: BaseDataset, val: BaseDataset, name: str) -> None:
    """Raise a ValueError unless what is classified has the classes of the training.

    Args:
        train: Data set with labels; its folders, if any, name its classes.
        val: Likewise.
        name: Of ``val``, for errors.
    """
    if val.CLASSES and train.CLASSES:
        check_same_names(val.CLASSES, train.CLASSES, name, 'the training images')
    if unknown := {*labels_of(val)} - {*labels_of(train)}:
        raise ValueError(
            f'{name} has labels that no training image has: {sorted(unknown)[:5]}; a '
            'list numbers the classes as their folders do, in alphabetical order'
        )


def labels_of(dataset: BaseDataset) -> list[int]:
    """The labels of all images, without reading them.

    Raises:
        ValueError: If an image has none.
    """
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    if unlabelled := [info for info in infos if 'gt_label' not in info]:
        raise ValueError(
            f'{unlabelled[0].get("img_path", "an image")} has no label: give the data '
            f'set, {type(dataset).__name__}, with_label=True'
        )
    return [int(info['gt_label']) for info in infos]


class FeatureCache:
    """Features on disk, found again by all that they depend on.

    Args:
        folder: Where the files go.
        facts: What the features depend on besides the images; plain values.
    """

    def __init__(self, folder: Path, facts: dict) -> None:
        self.folder = folder
        self.facts = facts

    def path(self, dataset: ImageFolder, layers: Sequence[int]) -> Path:
        """The file for a data set: its images by path, size and time, its labels."""
        samples = [dataset.get_data_info(index) for index in range(len(dataset))]
        images = [
            (sample['img_path'], int(sample['gt_label']), *_state(sample['img_path']))
            for sample in samples
        ]
        text = json.dumps([self.facts, list(layers), images], default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.folder / f'features-{key}.safetensors'

    def load(self, path: Path) -> Features | None:
        """What an earlier run has left, or None."""
        if not path.is_file():
            return None
        return Features(**load_file(path))

    def save(self, path: Path, features: Features) -> None:
        """Write, aside at first, where no other process writes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f'.{uuid4().hex}.part')
        arrays = features._asdict().items()
        save_safetensors({key: torch.from_numpy(array) for key, array in arrays}, part)
        part.replace(path)


def _state(path: str) -> tuple[float, ...]:
    """Size and time of a file; empty if it can't be looked at, and so not be read."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime
