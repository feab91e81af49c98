"""Images that cannot be read are said, skipped and counted, by one rule everywhere."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from numbers import Real
from typing import NoReturn, TypeVar

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

Sample = TypeVar('Sample')
MAX_BROKEN_SHARE = 0.01


class BrokenImagesError(RuntimeError):
    """More images cannot be read than ``max_broken_share`` of their data set allows."""

    def __str__(self) -> str:
        """The message alone; a worker of a DataLoader puts its traceback before it."""
        return super().__str__().rpartition(f'{type(self).__name__}: ')[2].rstrip()


class UnreadableFileError(Exception):
    """A file that cannot be read, and why."""


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what goes wrong into an UnreadableFileError that names the file."""
    try:
        yield
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything
        raise UnreadableFileError(
            f'{printable(path)} ({type(error).__name__}: {error})'
        ) from error


def printable(path: str | os.PathLike) -> str:
    r"""A path for logs and pages: bytes that are not UTF-8 become ``\xe9``."""
    return os.fsencode(path).decode(errors='backslashreplace')


def check_share(share: float) -> None:
    """Raise a ValueError unless a ``max_broken_share`` is in [0, 1]."""
    if not isinstance(share, Real) or not 0 <= share <= 1:
        raise ValueError(f'max_broken_share must be in [0, 1], got {share!r}')


def too_many(broken: int, images: int, max_share: float) -> bool:
    """Whether more images are broken than a share of them that is allowed.

    One alone never is, unless the share is 0.
    """
    alone = broken == 1 and max_share > 0
    return not alone and broken / images > max_share


class BrokenImages:
    """Which images of a data set cannot be read, and how many of them it may have.

    A broken image is logged once and never opened again. The next readable one takes
    its place without drawing a random number.

    Args:
        dataset: Its indices must stay those of the same images.
        max_share: Share of broken images, in [0, 1], above which the run stops; counted
            in each process of a distributed run. One broken image alone never stops it,
            unless the share is 0.
        option: What sets ``max_share``, for the error.

    Raises:
        ValueError: If the share is out of range.
    """

    def __init__(self, dataset: BaseDataset, max_share: float, option: str) -> None:
        check_share(max_share)
        self.dataset = dataset
        self.max_share = max_share
        self.option = option
        # Shared, so that what one worker finds in one epoch, all know in the next.
        self.marks = torch.zeros(len(dataset), dtype=torch.bool).share_memory_()

    def first_readable(self, start: int, read: Callable[[int], Sample]) -> Sample:
        """What ``read`` makes of the first index from ``start`` on that it can read.

        Args:
            start: An index.
            read: Raises UnreadableFileError if it cannot read an index.

        Raises:
            IndexError: If there is no such index.
            BrokenImagesError: If more images are broken than allowed.
        """
        start = range(len(self.marks))[start]
        for index in chain(range(start, len(self.marks)), range(start)):
            if self.marks[index]:
                continue
            try:
                return read(index)
            except UnreadableFileError as error:
                self.skip(index, error)
        self._stop()

    def skip(self, index: int, error: UnreadableFileError) -> None:
        """Mark an image as broken, say so once, and stop if it is one too many."""
        if self.marks[index]:  # another worker was faster
            return
        self.marks[index] = True
        number = int(self.marks.sum())
        print_log(
            f'skipped: cannot read {error}; {number} of {len(self.marks)} images so '
            'far',
            logger='current',
            level=logging.ERROR,  # below that, only rank 0 is heard
        )
        if too_many(number, len(self.marks), self.max_share):
            self._stop()

    def _stop(self) -> NoReturn:
        broken = self.marks.nonzero().flatten().tolist()
        paths = [self.dataset.get_data_info(index)['img_path'] for index in broken[:5]]
        more = ', …' if len(broken) > len(paths) else ''
        raise BrokenImagesError(
            f'{len(broken)} of {len(self.marks)} images cannot be read, found so far; '
            f'the limit is {self.max_share:.2%}: {", ".join(map(printable, paths))}'
            f'{more}. Mend or remove them (the log has the reasons), or raise '
            f'{self.option}'
        )
