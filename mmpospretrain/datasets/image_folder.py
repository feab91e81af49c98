"""Any folder or list of images, with or without labels; unreadable ones are skipped."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mmpospretrain.registry import DATASETS

from .broken_images import (
    MAX_BROKEN_SHARE,
    BrokenImages,
    check_share,
    printable,
    reading,
)
from .class_folders import VisibleFolders
from .equal_shapes import check_equal_shapes
from .image_files import EXTENSIONS, count_endings, list_images
from .image_reading import read_image
from .image_source import read_list
from .wording import some


@DATASETS.register_module()
class ImageFolder(VisibleFolders, CustomDataset):
    """MMPretrain's ``CustomDataset`` for images nobody has looked through.

    It takes flat and nested folders, ImageNet's layout and list files. A list file has
    one path a line, relative to ``data_prefix`` or absolute; a label after it is used
    with ``with_label=True`` and ignored otherwise.

    The dataset reads the images itself, by :func:`read_image`, so a truncated file is
    noticed whatever pipeline follows; a ``LoadImageFromFile`` at the head of
    ``pipeline``, as in MMPretrain's configs, is left out. If reading or decoding a file
    fails, the image is broken, and :class:`BrokenImages` has the next one read in its
    place; ``sample_idx`` is that of the image that is read. An error in the transforms
    is no fault of the image and is raised.

    When it is ready, it logs how many images it has, and which other files there are.

    Args:
        with_label (bool): Whether samples carry ``gt_label``. Defaults to False.
        extensions (Sequence[str]): Files in a folder that are images, in any case.
        pipeline (Sequence[dict | Callable]): Transforms of a dict with ``img``,
            (H, W, 3) uint8 in BGR, ``img_shape``, ``ori_shape`` and ``img_path``.
        max_broken_share (float): Share of broken images, in [0, 1], above which the run
            stops; counted in each process of a distributed run. One broken image alone
            never stops it, unless the share is 0. Defaults to 0.01.
        **kwargs: Other arguments of ``CustomDataset``: ``data_root``, ``data_prefix``,
            ``ann_file``, ``indices``, …

    Raises:
        FileNotFoundError: If the folder or the list file does not exist.
        BrokenImagesError: While reading, if more images are broken than allowed.
        ValueError: If there is no image, an argument is out of range, or the pipeline
            gives different shapes to images that differ in size.
    """

    def __init__(
        self,
        *,
        with_label: bool = False,
        extensions: Sequence[str] = EXTENSIONS,
        pipeline: Sequence = (),
        max_broken_share: float = MAX_BROKEN_SHARE,
        **kwargs,
    ) -> None:
        check_share(max_broken_share)
        self.max_broken_share = max_broken_share
        super().__init__(
            with_label=with_label, extensions=extensions, pipeline=pipeline, **kwargs
        )
        head = self.pipeline.transforms[:1]
        if head and isinstance(head[0], LoadImageFromFile):
            if head[0].to_float32 or head[0].color_type != 'color':
                raise ValueError(
                    f'ImageFolder gives uint8 colour images, but {head[0]} asks for '
                    'others: convert them by a transform after it'
                )
            del self.pipeline.transforms[0]
        if self._fully_initialized and len(self):
            every = range(0, len(self), -(-len(self) // 100))  # at most 100
            paths = (self.get_data_info(index)['img_path'] for index in every)
            check_equal_shapes(self.pipeline.transforms, paths)

    def full_init(self) -> None:
        """List the images."""
        if not self._fully_initialized:
            super().full_init()
            self._forget_broken()
            self._say_how_many()

    def _forget_broken(self) -> None:
        option = getattr(self, 'broken', None) and self.broken.option
        self.broken = BrokenImages(
            self, self.max_broken_share, option or 'max_broken_share of the data set'
        )

    def _say_how_many(self) -> None:
        rest = ''
        if others := getattr(self, '_others', None):
            rest = f'; files with other endings are left out: {count_endings(others)}'
        images = 'image' if len(self) == 1 else 'images'
        source = printable(self.ann_file or self.img_prefix.rstrip('/'))
        print_log(f'{len(self)} {images} of {source}{rest}', logger='current')

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep a subset, as ``BaseDataset``; indices change, so broken ones anew."""
        super().get_subset_(indices)
        self._forget_broken()

    def get_subset(self, indices: Sequence[int] | int) -> 'ImageFolder':
        """Return a subset, as ``BaseDataset``; indices change, so broken ones anew."""
        subset = super().get_subset(indices)
        subset._forget_broken()
        return subset

    def _find_samples(self) -> list:
        """As upstream, whose walk never ends where links make a circle."""
        images, self._others = list_images(self.img_prefix, self.extensions)
        if not self.with_label:
            return images
        labels = self._label_folders()
        by_folder = ((Path(image).parts[0], image) for image in images)
        samples = [
            (image, labels[folder])
            for folder, image in sorted(by_folder)
            if folder != image  # which has no class
        ]
        if empty := {*labels} - {Path(image).parts[0] for image, _ in samples}:
            print_log(
                f'no image of {len(empty)} classes: {some(sorted(empty))}',
                logger='current',
                level=logging.WARNING,
            )
        if not samples:
            raise ValueError(
                f'no folder of {self.img_prefix} has images: each class needs one'
            )
        return samples

    def load_data_list(self) -> list[dict]:
        """List the samples of the folder, or of ``ann_file``."""
        if not self.ann_file:
            return super().load_data_list()
        backend = fileio.get_file_backend(self.img_prefix, enable_singleton=True)
        data_list = []
        for name, label in read_list(self.ann_file):
            info = {'img_path': backend.join_path(self.img_prefix, name)}
            if self.with_label:
                if label is None:
                    raise ValueError(f'{self.ann_file} gives no label for {name!r}')
                info['gt_label'] = label
            data_list.append(info)
        return data_list

    def prepare_data(self, idx: int) -> dict | None:
        """Read and transform image ``idx``, or the next readable one after it.

        An index beyond the end raises IndexError, which stops an iteration.
        """
        return self.pipeline(self.broken.first_readable(idx, self._read))

    def _read(self, idx: int) -> dict:
        info = self.get_data_info(idx)
        with reading(info['img_path']):
            image = read_image(info['img_path'])
        shape = image.shape[:2]
        return {**info, 'img': image, 'img_shape': shape, 'ori_shape': shape}
