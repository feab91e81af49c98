"""CIFAR: MMPretrain's, with colours in the order that everything after it expects."""

import numpy as np
from mmpretrain.datasets import CIFAR10 as _CIFAR10, CIFAR100 as _CIFAR100

from mmpospretrain.registry import DATASETS


class _AsRead:
    """BGR, as MMCV reads files: RandAugment and data preprocessors are made for that.

    MMPretrain's own CIFAR is RGB, and its pipelines do without colours.
    """

    def get_data_info(self, idx: int) -> dict:
        """As upstream, in BGR."""
        info = super().get_data_info(idx)
        return {**info, 'img': np.ascontiguousarray(info['img'][..., ::-1])}


@DATASETS.register_module()
class CIFAR10(_AsRead, _CIFAR10):
    """MMPretrain's ``CIFAR10``, with its arguments, in BGR."""


@DATASETS.register_module()
class CIFAR100(_AsRead, _CIFAR100):
    """MMPretrain's ``CIFAR100``, with its arguments, in BGR."""
