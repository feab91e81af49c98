"""MMPretrain's data sets with a folder for each class, but for hidden folders."""

from collections import Counter
from collections.abc import Sequence

from mmengine import fileio
from mmpretrain.datasets import CustomDataset as _CustomDataset, ImageNet as _ImageNet
from mmpretrain.datasets.custom import get_samples

from mmpospretrain.registry import DATASETS

from .image_files import is_image
from .wording import some


def class_folders(root: str) -> list[str]:
    """Names of the folders of classes, in the order of their labels."""
    names = fileio.list_dir_or_file(root, list_file=False)
    return sorted(name for name in names if not name.startswith('.'))


def check_same_names(
    names: Sequence[str], others: Sequence[str], what: str, than: str
) -> None:
    """Raise a ValueError unless classes have the same names in the same order.

    Args:
        names: Of classes.
        others: Likewise.
        what: Where ``names`` are from, for errors.
        than: Where ``others`` are from.
    """
    if differing := sorted({*names} ^ {*others}):
        raise ValueError(
            f'{what} has other classes than {than}; only one has {some(differing, 5)}'
        )
    for label, (name, other) in enumerate(zip(names, others, strict=False)):
        if name != other:
            raise ValueError(
                f'{what} has its classes in another order than {than}: {label} is '
                f'{name!r} here and {other!r} there'
            )


def check_folder_names(
    root: str, folders: Sequence[str], classes: Sequence[str]
) -> None:
    """See that folders, which are numbered in sorted order, are the named classes.

    Names that have nothing in common with the folders, as ImageNet's words, may stand
    for them.

    Raises:
        ValueError: If not; names what differs.
    """
    plain = {name.casefold() for name in folders}
    if len(plain) < len(folders):
        times = Counter(name.casefold() for name in folders)
        twice = [name for name in folders if times[name.casefold()] > 1]
        raise ValueError(
            f'folders of classes in {root} differ in case alone: {some(twice, 5)}'
        )
    if plain & {name.casefold() for name in classes}:
        check_same_names(folders, classes, root, 'metainfo.classes')
    if len(folders) != len(classes):
        raise ValueError(
            f'{root} has {len(folders)} folders of classes, but metainfo.classes names '
            f'{len(classes)}. Folders: {some(folders, 5)}. Classes: {some(classes, 5)}'
        )


class VisibleFolders:
    """Labels count visible folders only; what is below a hidden one is no image.

    MMPretrain counts a ``.ipynb_checkpoints`` as a class.
    """

    def is_valid_file(self, filename: str) -> bool:
        """Whether a file in the folder is an image, and not hidden."""
        return is_image(filename, self.extensions)

    def _find_samples(self) -> list:
        if not self.with_label:
            return super()._find_samples()
        labels = self._label_folders()
        return get_samples(self.img_prefix, labels, self.is_valid_file)[0]

    def _label_folders(self) -> dict[str, int]:
        """The label of each folder."""
        folders = class_folders(self.img_prefix)
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(folders)
        check_folder_names(self.img_prefix, folders, self.CLASSES)
        self.folder_to_idx = {name: label for label, name in enumerate(folders)}
        return self.folder_to_idx


@DATASETS.register_module()
class CustomDataset(VisibleFolders, _CustomDataset):
    """MMPretrain's ``CustomDataset``, with its arguments, without hidden folders."""


@DATASETS.register_module()
class ImageNet(VisibleFolders, _ImageNet):
    """MMPretrain's ``ImageNet``, with its arguments, without hidden folders."""
