"""Frozen features of labelled images, for linear probes and nearest neighbours.

Letters: B images of a batch, M images in all, L layers, D embedding width.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset
from rich.progress import track
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from mmpospretrain.models import PositionViT


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


@torch.no_grad()
def pooled_features(
    backbone: PositionViT, images: Tensor, layers: Sequence[int]
) -> Tensor:
    """Patch tokens after some layers, normed by the final norm, averaged.

    Args:
        backbone: In evaluation mode.
        images: Normalised, (B, C, H, W).
        layers: Their numbers from 0, ascending.

    Returns:
        (B, L, D), float32.
    """
    patches, grid_size = backbone.patchify(images)
    patches = patches + backbone.patch_positions(grid_size)
    outputs = backbone.encode(patches, out_indices=layers)
    last = backbone.num_layers - 1
    normed = (
        x if layer == last and backbone.final_norm else backbone.ln1(x)
        for layer, x in zip(layers, outputs, strict=True)
    )
    prefix = backbone.num_extra_tokens
    return torch.stack([x[:, prefix:].float().mean(dim=1) for x in normed], dim=1)


def extract_features(
    backbone: PositionViT,
    preprocessor: nn.Module,
    dataset: CustomDataset,
    layers: Sequence[int],
    batch_size: int = 64,
    num_workers: int = 2,
    title: str | None = None,
) -> Features:
    """Features of all images of a data set.

    Args:
        backbone: Left in the mode that it was in.
        preprocessor: Normalises; on the device of the backbone.
        dataset: With labels.
        layers: As of :func:`pooled_features`.
        batch_size: Images at once.
        num_workers: Processes that read images.
        title: Of a progress bar; none without.
    """
    loader = Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=batch_size,
            num_workers=num_workers,
            sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
            collate_fn=dict(type='default_collate'),
        )
    )
    training = backbone.training
    backbone.eval()
    values, labels = [], []
    try:
        for batch in track(loader, title, transient=True, disable=title is None):
            batch = preprocessor(batch)
            features = pooled_features(backbone, batch['inputs'], layers)
            values.append(features.cpu().numpy())
            labels += [int(sample.gt_label) for sample in batch['data_samples']]
    finally:
        backbone.train(training)
    return Features(np.concatenate(values), np.array(labels))


def labelled_images(
    source: Path, pipeline: list[dict], like: CustomDataset | None = None
) -> CustomDataset:
    """A labelled data set.

    Args:
        source: Folder with a folder for each class; or a text file with a path and a
            class number in each line, the paths from the folder of the file or from the
            one above.
        pipeline: Transforms, from the path to packed inputs.
        like: Data set whose classes this one must have.

    Raises:
        FileNotFoundError: If there is no such source, or no image in it.
        ValueError: If the classes differ.
    """
    if source.is_file():
        lines = source.read_text(encoding='utf-8').splitlines()
        first = next((line for line in lines if line.strip()), '').rpartition(' ')[0]
        roots = (source.parent, source.parent.parent)
        root = next(
            (root for root in roots if first and (root / first).is_file()), None
        )
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
    dataset = CustomDataset(**where, pipeline=pipeline)
    if like and (dataset.CLASSES or ()) != (like.CLASSES or ()):
        differing = sorted({*(dataset.CLASSES or ())} ^ {*(like.CLASSES or ())})
        raise ValueError(
            f'{source} has other classes than the training images; only one has '
            f'{", ".join(differing[:5])}'
        )
    return dataset


class FeatureCache:
    """Features on disk, found again by all that they depend on.

    Args:
        folder: Where the files go.
        facts: What the features depend on besides the images; plain values.
    """

    def __init__(self, folder: Path, facts: dict) -> None:
        self.folder = folder
        self.facts = facts

    def path(self, dataset: CustomDataset, layers: Sequence[int]) -> Path:
        """The file for a data set: its images by path, size and time, its labels."""
        samples = [dataset.get_data_info(index) for index in range(len(dataset))]
        stats = [Path(sample['img_path']).stat() for sample in samples]
        images = [
            (sample['img_path'], int(sample['gt_label']), stat.st_size, stat.st_mtime)
            for sample, stat in zip(samples, stats, strict=True)
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
        """Write, aside at first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix('.part')
        save_file(features._asdict(), part)
        part.replace(path)
