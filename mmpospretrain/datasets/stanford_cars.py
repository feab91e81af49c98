"""Stanford Cars: MMPretrain's, once it is known that everything is there."""

from pathlib import Path

from mmpretrain.datasets import StanfordCars as _StanfordCars

from mmpospretrain.checks import check_choice
from mmpospretrain.registry import DATASETS

from .image_source import missing

LAYOUT = """\
DIR/
├── cars_train/00001.jpg …
├── cars_test/00001.jpg …
└── devkit/cars_train_annos.mat
           cars_test_annos_withlabels.mat
or
DIR/
├── car_ims/000001.jpg …
└── cars_annos.mat"""
# By their split; the second layout has one for both.
ANNOTATIONS = {
    'train': 'cars_train_annos.mat',
    'test': 'cars_test_annos_withlabels.mat',
}


@DATASETS.register_module()
class StanfordCars(_StanfordCars):
    """MMPretrain's ``StanfordCars`` with errors that say what is missing.

    Args:
        data_root (str): Folder with one of the two layouts that it is published in.
        split (str): ``'train'`` or ``'test'``.
        **kwargs: Other arguments of MMPretrain's: ``pipeline``, ``indices``, …

    Raises:
        FileNotFoundError: If annotations or images are missing; the message has the
            layout.
        ValueError: If there is no such split.
    """

    def __init__(self, *, data_root: str, split: str = 'train', **kwargs) -> None:
        check_choice('split', split, ANNOTATIONS)
        root = Path(data_root).expanduser()
        annotations = root / 'devkit' / ANNOTATIONS[split]
        if not (root / 'cars_annos.mat').exists() and not annotations.exists():
            unlabelled = annotations.with_name('cars_test_annos.mat')
            hint = ''
            if split == 'test' and unlabelled.exists():
                hint = f' {unlabelled.name} has no labels; they are a separate file.'
            raise missing(annotations, 'StanfordCars', LAYOUT, hint)
        super().__init__(data_root=str(root), split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images, once the first and the last are known to be there."""
        data_list = super().load_data_list()
        for info in (data_list[0], data_list[-1]):
            if not Path(info['img_path']).exists():
                raise missing(
                    info['img_path'], f'StanfordCars by {self.ann_file}', LAYOUT
                )
        return data_list
