"""Tiny ImageNet: 64² images of 200 classes, as its zip unpacks."""

from collections import Counter
from pathlib import Path

from mmpospretrain.checks import check_choice
from mmpospretrain.registry import DATASETS

from .image_folder import ImageFolder
from .image_source import missing

LAYOUT = """\
DIR/                                    (tiny-imagenet-200)
├── wnids.txt
├── train/n01443537/images/n01443537_0.JPEG …
└── val/images/val_0.JPEG …
        val_annotations.txt"""


@DATASETS.register_module()
class TinyImageNet(ImageFolder):
    """Images of Tiny ImageNet, with the number of their class in ``wnids.txt``.

    It is an :class:`ImageFolder` that knows where the labels are, and takes pipelines
    of pre-trainings and of MMPretrain's fine-tunings alike.

    Args:
        data_root (str): The folder that the zip unpacks to, ``tiny-imagenet-200``.
        split (str): ``'train'`` or ``'val'``. The test images have no labels.
        with_label (bool): Whether samples carry ``gt_label``. Defaults to True.
        **kwargs: Other arguments of :class:`ImageFolder`: ``pipeline``, ``indices``, …

    Raises:
        FileNotFoundError: If a file or folder is missing; the message has the layout.
        ValueError: If there is no such split, or an image is of an unknown class.
    """

    def __init__(
        self,
        *,
        data_root: str,
        split: str = 'train',
        with_label: bool = True,
        **kwargs,
    ) -> None:
        if split == 'test':
            raise ValueError(
                "the test images of Tiny ImageNet have no labels: take split='val', or "
                'mmpospretrain.ImageFolder for the images alone'
            )
        check_choice('split', split, ('train', 'val'))
        self.split = split
        super().__init__(
            data_root=str(Path(data_root).expanduser()),
            data_prefix=split,
            with_label=with_label,
            **kwargs,
        )

    def _find_samples(self) -> list:
        root = Path(self.data_root)
        if not (root / 'wnids.txt').is_file():
            raise _missing(root / 'wnids.txt')
        wnids = (root / 'wnids.txt').read_text().split()
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        self._metainfo.setdefault('classes', tuple(wnids))
        find = self._find_train if self.split == 'train' else self._find_val
        found = find(root / self.split)
        if unknown := Counter(wnid for _, wnid in found if wnid not in labels):
            wnid, count = unknown.most_common(1)[0]
            raise ValueError(
                f'{count} images in {root / self.split} are of class {wnid!r}, which '
                f'is not among the {len(wnids)} of {root / "wnids.txt"}'
            )
        if lost := labels.keys() - {wnid for _, wnid in found}:
            raise _missing(f'image of class {min(lost)} in {root / self.split}')
        return [
            (name, labels[wnid]) if self.with_label else name for name, wnid in found
        ]

    def _find_train(self, folder: Path) -> list[tuple[str, str]]:
        """Names, relative to ``folder``, and classes."""
        return [
            (name, Path(name).parts[0])
            for path in sorted(folder.glob('*/images/*'))
            if self.is_valid_file(name := str(path.relative_to(folder)))
        ]

    def _find_val(self, folder: Path) -> list[tuple[str, str]]:
        """Names, relative to ``folder``, and classes."""
        annotations = folder / 'val_annotations.txt'
        if not annotations.is_file():
            raise _missing(annotations)
        # An image, its class and a box in each line.
        lines = [line.split() for line in annotations.read_text().splitlines()]
        named = [(line[0], line[1]) for line in lines if len(line) > 1]
        there = {path.name for path in folder.glob('images/*')}
        if absent := [name for name, _ in named if name not in there]:
            raise _missing(
                f'{folder / "images" / absent[0]}, the first of {len(absent)} absent '
                f'images that {annotations} names'
            )
        return [(f'images/{name}', wnid) for name, wnid in named]


def _missing(what: str | Path) -> FileNotFoundError:
    return missing(what, 'TinyImageNet', LAYOUT)
