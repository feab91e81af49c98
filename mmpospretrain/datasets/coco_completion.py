"""Files in COCO's format whose gaps are filled while they are read.

MMDetection and the COCO API stop at an object without an area, an image without a size
or a byte-order mark. What they read instead is a completed copy, made for the moment;
the file stays as it is, and a config names it.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend

from .coco_file import FAKE_MASK, area_of, box_of, find, has_mask, read_coco, size_of
from .image_headers import headers

BACKEND = 'completed_coco'


@register_backend(BACKEND, force=True)
class CompletedCocoBackend(LocalBackend):
    """MMEngine's local backend, for annotations in COCO's format with gaps.

    Objects without a usable box, of unknown images or of unknown categories are left
    out. The check before a training asks for it, in ``backend_args`` of the data set
    and of its metric.

    Args:
        images (str): Folder of the images, relative to that of the annotations.
        turned (bool): Whether images are turned by EXIF when they are read.
        masks (str): 'polygons' or 'any', if objects without such a mask are to be
            ignored; '' if masks are not needed.
    """

    def __init__(self, images: str = '.', turned: bool = True, masks: str = '') -> None:
        self.images = images
        self.turned = turned
        self.masks = masks

    @contextmanager
    def get_local_path(self, filepath: str | Path) -> Iterator[str]:
        """Yield the path of a completed copy, which is there for the ``with`` only."""
        content = read_coco(str(filepath))
        folder = Path(filepath).parent / self.images
        _add_sizes(content['images'], folder, self.turned)
        _complete_annotations(content, self.masks)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, Path(filepath).name)
            path.write_text(json.dumps(content), encoding='utf-8')
            yield str(path)


def _add_sizes(images: list[dict], folder: Path, turned: bool) -> None:
    unsized = [image for image in images if not size_of(image)]
    paths = [str(folder / image['file_name']) for image in unsized]
    for image, header in zip(unsized, headers(paths), strict=True):
        if header:  # else it isn't used: the check has looked at those that are
            image['width'], image['height'] = header.size(turned)
        else:
            image['width'] = image['height'] = 0


def _complete_annotations(content: dict[str, Any], masks: str) -> None:
    images = {image['id']: image for image in content['images']}
    categories = {category['id']: category for category in content['categories']}
    kept = [
        annotation
        for annotation in content['annotations']
        if box_of(annotation)
        and find(annotation, 'image_id', images)
        and find(annotation, 'category_id', categories)
    ]
    numbered = all('id' in annotation for annotation in kept)
    for number, annotation in enumerate(kept, start=1):
        if not numbered:
            annotation['id'] = number
        if not area_of(annotation):
            annotation['area'] = annotation['bbox'][2] * annotation['bbox'][3]
        annotation['iscrowd'] = int(bool(annotation.get('iscrowd')))
        image = images[annotation['image_id']]
        if masks and not has_mask(annotation, image, masks == 'polygons'):
            annotation.update(segmentation=FAKE_MASK, iscrowd=1)
    content['annotations'] = kept
