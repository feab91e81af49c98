"""Fine-tunings skip and count broken images as pre-training does.

MMPretrain, MMDetection and MMSegmentation read files by transforms of MMCV, whose
errors name no file. :func:`skip_broken_images` puts these transforms, where they stand
in a pipeline, into one that knows what to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner.runner import _SlicedDataset
from torch.utils.data import DataLoader, Dataset

from mmpospretrain.registry import registered

from .broken_images import (
    MAX_BROKEN_SHARE,
    BrokenImages,
    UnreadableFileError,
    reading,
)
from .image_folder import ImageFolder
from .image_reading import read_image, require_regular

LOADERS = (LoadImageFromFile, LoadAnnotations)


def skip_broken_in_loader(
    loader: DataLoader, name: str, shares: Mapping[str, float]
) -> None:
    """:func:`skip_broken_images` in a loader, by its name in the config."""
    run = 'testing' if name == 'test_dataloader' else 'training'
    way = f'in {run} by --cfg-options {name}.{{path}}.max_broken_share=0.1'
    skip_broken_images(loader.dataset, way, shares)


def skip_broken_images(dataset: Dataset, way: str, shares: Mapping[str, float]) -> None:
    """Make a data set skip and count what it cannot read.

    In training, and in the validation of classifiers and segmentors, the next readable
    sample takes the place of a broken one, as in :class:`ImageFolder`. A detector is
    shown a black image of the annotated size instead: AP counts by the number of an
    image, so that a second sample of another would be false detections. The objects of
    a black image are missed, and the result can only be too low. A broken label map
    counts as its image.

    Args:
        dataset: With or without wrappers; `ImageFolder` does it by itself, and learns
            what to advise.
        way: Where ``max_broken_share`` is set, for the error; ``{path}`` becomes the
            place of the data set among its wrappers.
        shares: Of :func:`take_shares`.

    Raises:
        ValueError: If a share is not in [0, 1].
    """
    for path, leaf in _leaves(dataset):
        option = f'max_broken_share of the data set, {way.format(path=path)}'
        if isinstance(leaf, ImageFolder):
            leaf.broken.option = option
        elif isinstance(leaf, BaseDataset):
            _skip_in(leaf, shares.get(path, MAX_BROKEN_SHARE), option)


def take_shares(loader: Any) -> dict[str, float]:
    """Take ``max_broken_share`` out of configs of data sets that don't know of it.

    Args:
        loader: Config of a data loader; a loader that is already built has none.

    Returns:
        By the place of the data set in the config of the loader.
    """
    if not isinstance(loader, dict):
        return {}
    return {
        path: config.pop('max_broken_share')
        for path, config in _leaf_configs(loader['dataset'], 'dataset')
        if 'max_broken_share' in config and not _skips_itself(config['type'])
    }


def _skips_itself(kind: str | type) -> bool:
    kind = registered(kind, DATASETS)
    return isinstance(kind, type) and issubclass(kind, ImageFolder)


def _leaf_configs(config: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Configs of data sets without their wrappers, and their places."""
    if not isinstance(config, dict):
        return
    if 'dataset' in config:
        yield from _leaf_configs(config['dataset'], f'{path}.dataset')
    elif 'datasets' in config:
        for index, inner in enumerate(config['datasets']):
            yield from _leaf_configs(inner, f'{path}.datasets.{index}')
    else:
        yield path, config


def _leaves(dataset: Dataset, path: str = 'dataset') -> Iterator[tuple[str, Dataset]]:
    """As :func:`_leaf_configs`, of what was built."""
    if isinstance(dataset, _SlicedDataset):  # of num_batch_per_epoch
        yield from _leaves(dataset._dataset, path)
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset, f'{path}.dataset')
    elif hasattr(dataset, 'datasets'):
        for index, inner in enumerate(dataset.datasets):
            yield from _leaves(inner, f'{path}.datasets.{index}')
    else:
        yield path, dataset


def _skip_in(dataset: BaseDataset, share: float, option: str) -> None:
    steps = getattr(dataset.pipeline, 'transforms', [])
    loaders = [index for index, step in enumerate(steps) if isinstance(step, LOADERS)]
    if loaders:  # else it holds its images in memory
        after = loaders[-1] + 1
        broken = BrokenImages(dataset, share, option)
        head = ReadableSample(dataset, steps[:after], broken)
        dataset.pipeline.transforms = [head, *steps[after:]]


class ReadableSample:
    """The transforms of a pipeline up to the last that reads a file, as one.

    Args:
        dataset: Whose pipeline it is.
        steps: The transforms.
        broken: Of the data set.
    """

    def __init__(
        self, dataset: BaseDataset, steps: Sequence, broken: BrokenImages
    ) -> None:
        self.dataset = dataset
        self.steps = steps
        self.broken = broken

    def __call__(self, sample: dict) -> dict | None:
        """Read a sample, or what takes its place."""
        index = sample['sample_idx']
        if self.dataset.test_mode and 'img_id' in sample:
            return self._read_or_black(index, sample)
        return self.broken.first_readable(
            index,
            lambda i: self._read(
                sample if i == index else self.dataset.get_data_info(i)
            ),
        )

    def _read_or_black(self, index: int, sample: dict) -> dict | None:
        if not self.broken.marks[index]:
            try:
                return self._read(sample)
            except UnreadableFileError as error:
                self.broken.skip(index, error)
        return self._read(self.dataset.get_data_info(index), black=True)

    def _read(self, sample: dict, black: bool = False) -> dict | None:
        for step in self.steps:
            if isinstance(step, LoadImageFromFile):
                sample = _black_image(sample) if black else _load_image(step, sample)
            elif isinstance(step, LoadAnnotations) and sample.get('seg_map_path'):
                with reading(sample['seg_map_path']):
                    require_regular(sample['seg_map_path'])
                    sample = step(sample)
            else:
                sample = step(sample)
            if sample is None:  # as a transform may say that it wants another
                return None
        return sample

    def __repr__(self) -> str:
        """The transforms that it holds."""
        return f'{type(self).__name__}({self.steps})'


def _load_image(loader: LoadImageFromFile, sample: dict) -> dict | None:
    """As the loader; what OpenCV does not read, as GIF on some machines, Pillow may."""
    path = sample['img_path']
    with reading(path):
        require_regular(path)
        try:
            return loader(sample)
        except MemoryError:
            raise
        except Exception:  # of cv2 and Pillow, of nearly any type
            if loader.color_type != 'color':
                raise
            image = read_image(path, loader.backend_args)
    if loader.to_float32:
        image = image.astype(np.float32)
    shape = image.shape[:2]
    return {**sample, 'img': image, 'img_shape': shape, 'ori_shape': shape}


def _black_image(sample: dict) -> dict:
    shape = sample['height'], sample['width']
    image = np.zeros((*shape, 3), np.uint8)
    return {**sample, 'img': image, 'img_shape': shape, 'ori_shape': shape}
