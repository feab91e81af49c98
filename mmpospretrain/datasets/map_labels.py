"""Label maps of a segmentation, looked at before a segmentor trains on them."""

import os

from mmengine.dataset import BaseDataset

from .wording import YOUR_CLASSES, some


def check_maps(dataset: BaseDataset) -> None:
    """See that the images and maps a data set would read are there, by their names."""
    kind = type(dataset).__name__
    dataset.full_init()
    samples = dataset.data_list  # whole, as it is not serialized
    suffix = getattr(dataset, 'img_suffix', '')
    if not samples:
        raise ValueError(
            f'{kind} finds no image in {dataset.data_prefix["img_path"]} that ends in '
            f'{suffix!r}. Set img_suffix in the data sets of all loaders, and '
            f'seg_map_suffix: see {YOUR_CLASSES}.'
        )
    for key, what in (('img_path', 'images'), ('seg_map_path', 'maps')):
        there: dict[str, set[str]] = {}  # by folder: one look into each is quick
        lost = []
        for folder, name in (os.path.split(sample[key]) for sample in samples):
            if folder not in there:
                there[folder] = (
                    {*os.listdir(folder)} if os.path.isdir(folder) else set()
                )
            if name not in there[folder]:
                lost.append((folder, name))
        if lost:
            raise FileNotFoundError(
                f'{len(lost)} of the {len(samples)} {what} that {kind} needs are '
                f'missing. Expected in {lost[0][0]}: '
                f'{some([name for _, name in lost], 5)}. A map is called as its '
                f'image, but for img_suffix={suffix!r} and '
                f'seg_map_suffix={getattr(dataset, "seg_map_suffix", "")!r}. Set '
                'these, or name the images to be used in ann_file, without suffix.'
            )
