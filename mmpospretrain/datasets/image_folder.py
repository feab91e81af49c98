"""Any folder or list of images, with or without labels; unreadable ones are skipped."""

import io
import logging
from collections.abc import Sequence
from itertools import chain
from typing import NoReturn

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset
from PIL import Image, ImageOps

from mmpospretrain.datasets.class_folders import VisibleFolders
from mmpospretrain.datasets.image_source import (
    EXTENSIONS,
    read_list,
    require_images,
)
from mmpospretrain.registry import DATASETS


class BrokenImagesError(RuntimeError):
    """More images cannot be read than ``max_broken_share`` of their data set allows."""

    def __str__(self) -> str:
        """The message alone; a worker of a DataLoader puts its traceback before it."""
        return super().__str__().rpartition(f'{type(self).__name__}: ')[2].rstrip()


@DATASETS.register_module()
class ImageFolder(VisibleFolders, CustomDataset):
    """MMPretrain's ``CustomDataset`` for images nobody has looked through.

    It takes flat and nested folders, ImageNet's layout and list files. A list file has
    one path a line, relative to ``data_prefix`` or absolute; a label after it is used
    with ``with_label=True`` and ignored otherwise.

    The dataset reads the images itself, by :func:`read_image`, so a truncated file is
    noticed whatever pipeline follows; a ``LoadImageFromFile`` at the head of
    ``pipeline``, as in MMPretrain's configs, is left out. If reading or decoding a file
    fails, the image is broken: it is logged once and never opened again, and the next
    readable image takes its place without drawing a random number; ``sample_idx`` is
    that of the image that is read. An error in the transforms is no fault of the image
    and is raised.

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
        ValueError: If there is no image, or an argument is out of range.
    """

    def __init__(
        self,
        *,
        with_label: bool = False,
        extensions: Sequence[str] = EXTENSIONS,
        pipeline: Sequence = (),
        max_broken_share: float = 0.01,
        **kwargs,
    ) -> None:
        if not 0 <= max_broken_share <= 1:
            raise ValueError(
                f'max_broken_share must be in [0, 1], got {max_broken_share}'
            )
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

    def full_init(self) -> None:
        """List the images."""
        if not self._fully_initialized:
            super().full_init()
            self._forget_broken()

    def _forget_broken(self) -> None:
        # Shared, so that what one worker finds in one epoch, all know in the next.
        self._broken = torch.zeros(len(self), dtype=torch.bool).share_memory_()

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
        require_images(self.img_prefix, self.extensions)
        return super()._find_samples()

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
        """Read and transform image ``idx``, or the next readable one after it."""
        start = range(len(self))[idx]  # IndexError beyond the end stops an iteration
        for candidate in chain(range(start, len(self)), range(start)):
            if self._broken[candidate]:
                continue
            info = self.get_data_info(candidate)
            try:
                image = read_image(info['img_path'])
            except MemoryError:
                raise
            except Exception as error:  # Pillow's plugins raise nearly anything
                self._skip(candidate, f'{type(error).__name__}: {error}')
                continue
            shape = image.shape[:2]
            return self.pipeline(
                {**info, 'img': image, 'img_shape': shape, 'ori_shape': shape}
            )
        self._stop()

    def _skip(self, idx: int, reason: str) -> None:
        """Mark an image as broken, say so once, and stop if it is one too many."""
        if self._broken[idx]:  # another worker was faster
            return
        self._broken[idx] = True
        number = int(self._broken.sum())
        print_log(
            f'skipped: cannot read {self.get_data_info(idx)["img_path"]} ({reason}); '
            f'{number} of {len(self)} images so far',
            logger='current',
            level=logging.ERROR,  # below that, only rank 0 is heard
        )
        allowed = number == 1 and self.max_broken_share > 0
        if not allowed and number / len(self) > self.max_broken_share:
            self._stop()

    def _stop(self) -> NoReturn:
        broken = self._broken.nonzero().flatten().tolist()
        paths = [self.get_data_info(idx)['img_path'] for idx in broken[:5]]
        more = ', …' if len(broken) > len(paths) else ''
        raise BrokenImagesError(
            f'{len(broken)} of {len(self)} images cannot be read, found so far; the '
            f'limit is {self.max_broken_share:.2%}: {", ".join(paths)}{more}. Mend or '
            'remove them (the log has the reasons), or raise max_broken_share of the '
            'data set, in training by --cfg-options '
            'train_dataloader.dataset.max_broken_share=0.1'
        )


def read_image(path: str) -> np.ndarray:
    """Decode an image of any mode, upright by its EXIF tag: (H, W, 3) uint8, BGR.

    A transparency channel is dropped. Grey values of 16 bits are scaled to 8, where
    Pillow's conversion would clip them.

    Raises:
        Exception: Of nearly any type, if the file is missing, corrupt or truncated.
    """
    with Image.open(io.BytesIO(fileio.get(path))) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == 'F':
            raise ValueError('floating-point pixels have no agreed range')
        if image.mode.startswith('I'):
            grey = np.asarray(image).clip(0, 65535) // 257
            image = Image.fromarray(grey.astype(np.uint8))
        return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])
