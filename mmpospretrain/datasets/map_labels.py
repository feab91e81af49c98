"""Label maps of a segmentation, looked at before a segmentor trains on them."""

import logging
import os
from collections.abc import Sequence

from mmengine import fileio
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from mmpospretrain.registry import registered

from .broken_images import MAX_BROKEN_SHARE
from .image_source import absent, left_out
from .map_values import IGNORED, Numbers, judge_maps, read_maps, skip_unreadable
from .wording import YOUR_CLASSES, some


def reads_maps(kind: type | None) -> bool:
    """Whether a data set finds its maps as MMSegmentation's do."""
    return hasattr(kind, 'get_label_map')


def check_maps(
    dataset: BaseDataset,
    pipeline: Sequence[dict],
    cfg: Config,
    max_broken_share: float = MAX_BROKEN_SHARE,
    *,
    training: bool = True,
) -> None:
    """See that the images and maps a data set would read are there, and fit.

    Args:
        dataset: Of MMSegmentation, not serialized; it is initialized here.
        pipeline: Configs of its transforms.
        cfg: The whole config. The decode head says what is ignored, and how many
            classes there are where the data set does not.
        max_broken_share: Share of maps, in [0, 1], that may be skipped as they cannot
            be read.
        training: Whether a class without a pixel is worth a warning.

    Raises:
        FileNotFoundError: If images or maps are missing.
        ValueError: If there is no image, or maps hold anything else than the number of
            a class for each pixel of their images.
    """
    _check_names(dataset)
    _tell_left_out(dataset)
    if not (loader := _map_loader(pipeline, cfg.get('default_scope'))):
        return
    asked = loader.get('reduce_zero_label')
    if asked not in (None, dataset.reduce_zero_label):
        raise ValueError(
            f'LoadAnnotations has reduce_zero_label={asked}, its data set '
            f'{dataset.reduce_zero_label}. Set it in the data set alone: see '
            f'{YOUR_CLASSES}.'
        )
    found = read_maps(
        [(sample['img_path'], sample['seg_map_path']) for sample in dataset.data_list],
        backend=loader.get('imdecode_backend', 'pillow'),
        turned=all(
            transform.get('color_type', 'color') in ('color', 'grayscale')
            for transform in pipeline
        ),
    )
    head = cfg.get('model', {}).get('decode_head', {})
    if isinstance(head, list):  # a cascade
        head = head[-1]
    ignored = head.get('ignore_index')
    classes = dataset.metainfo.get('classes') or ()
    numbers = Numbers(
        count=len(classes) or head.get('num_classes'),
        ignored=IGNORED if ignored is None else ignored,
        reduce_zero_label=dataset.reduce_zero_label,
        label_map=dataset.label_map,
    )
    readable = skip_unreadable(found, max_broken_share)
    judge_maps(readable, numbers, classes if training else ())


def _map_loader(pipeline: Sequence[dict], scope: str | None) -> dict | None:
    """The transform that reads maps as MMSegmentation does, if there is one.

    Of maps for loaders of other kinds nothing is known.
    """
    from mmseg.datasets.transforms import LoadAnnotations  # slow, and here imported

    for transform in pipeline:
        kind = registered(transform.get('type'), TRANSFORMS, scope)
        read = getattr(kind, '_load_seg_map', None)
        if read is LoadAnnotations._load_seg_map:
            return transform
    return None


def _check_names(dataset: BaseDataset) -> None:
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
        lost = absent([sample[key] for sample in samples])
        if lost:
            raise FileNotFoundError(
                f'{len(lost)} of the {len(samples)} {what} that {kind} needs are '
                f'missing. Expected in {os.path.dirname(lost[0])}: '
                f'{some([os.path.basename(path) for path in lost], 5)}. '
                f'A map is called as its image, but for img_suffix={suffix!r} and '
                f'seg_map_suffix={getattr(dataset, "seg_map_suffix", "")!r}. Set '
                'these, or name the images to be used in ann_file, without suffix.'
            )


def _tell_left_out(dataset: BaseDataset) -> None:
    """Count images and maps that no suffix fits, where a folder is scanned."""
    if os.path.isfile(dataset.ann_file):
        return
    images, maps = dataset.data_prefix['img_path'], dataset.data_prefix['seg_map_path']
    # More than data_list, if there are indices.
    samples = dataset.load_data_list()
    used = {
        path for sample in samples for path in sample.values() if isinstance(path, str)
    }
    others = left_out(images, used)
    ending = os.path.splitext(dataset.img_suffix)[1]
    if ending != dataset.img_suffix:  # others of that ending are left out by name
        del others[ending]
    if others:
        kinds = ', '.join(f'{n} × {kind or "no ending"}' for kind, n in others.items())
        print_log(
            f'{kinds} in {images} left out: {type(dataset).__name__} reads images that '
            f'end in {dataset.img_suffix!r} alone; rename the others',
            logger='current',
            level=logging.WARNING,
        )
    alone = [
        name
        for name in fileio.list_dir_or_file(
            maps, list_dir=False, suffix=dataset.seg_map_suffix, recursive=True
        )
        if os.path.join(maps, name) not in used
    ]
    if alone:
        print_log(
            f'{len(alone)} maps in {maps} have no image: {some(sorted(alone), 3)}',
            logger='current',
        )
