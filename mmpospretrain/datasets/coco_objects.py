"""Which objects of a file in COCO's format MMDetection uses, and why not the others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .coco_file import area_of, box_of, find, has_mask
from .coco_use import Use

NO_BOX = 'without a box of four finite numbers'
NO_IMAGE = 'of images that are not in the file'
NO_CATEGORY = 'of categories that are not in the file'
LEFT_OUT = 'of classes that the config leaves out'
NEGATIVE = 'with a negative width or height'
SMALL = 'less than a pixel wide or high'
OUTSIDE = 'outside of their image'
IGNORED = 'marked to be ignored'
CROWD = 'marked as crowd, which is ignored'
NO_MASK = 'without a valid mask'
NO_MASKS = (
    ' Objects have boxes only, but with_mask=True of a pipeline, or '
    "'segm' of CocoMetric, asks for masks. For Faster R-CNN, which needs none: "
    'model.roi_head.mask_head=None, model.roi_head.mask_roi_extractor=None, '
    'with_mask=False in the pipelines of all loaders, and '
    "metric=['bbox'] of the evaluators."
)
NORMALISED = (
    " Boxes look normalised, as no value is above 1: COCO's are in pixels, so multiply "
    'by width and height.'
)
CORNERS = (
    " Boxes look like (left, top, right, bottom), as they leave their images: COCO's "
    'are (left, top, width, height).'
)
MEANT = {LEFT_OUT, IGNORED, CROWD}
"""Reasons that are no fault of a file."""


@dataclass
class ObjectCount:
    """Objects of the images that a data set reads."""

    total: int = 0
    used: int = 0
    reasons: Counter = field(default_factory=Counter)
    """How many are not used, by reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Ids of the first three of them, by reason."""
    gaps: Counter = field(default_factory=Counter)
    """What can be worked out, and how often."""
    advice: str = ''
    """A fault that all have in common, and what to do about it."""

    @property
    def faults(self) -> bool:
        """Whether some are not used though nobody meant that."""
        return bool(self.reasons.keys() - MEANT)


def count_objects(
    content: dict[str, Any],
    classes: Sequence[str],
    sizes: dict[Any, tuple[int, int] | None],
    use: Use,
) -> ObjectCount:
    """Look at each object of a file.

    Args:
        content: Of the file.
        classes: Names of the classes that are trained.
        sizes: Width and height by the id of an image, of all images that are used.
        use: What the file is for.
    """
    images = {image['id']: image for image in content['images']}
    named = {item['id']: item['name'] in classes for item in content['categories']}
    count = ObjectCount()
    with_mask = normalised = beyond = corners = 0
    for annotation in content['annotations']:
        image = find(annotation, 'image_id', images)
        box = box_of(annotation)
        size = sizes.get(image['id']) if image else None
        reason = _reason(annotation, box, image, size, named)
        lost = reason in (NO_BOX, NO_IMAGE, NO_CATEGORY)
        masked = not use.masks or (
            not lost and has_mask(annotation, image, use.masks == 'polygons')
        )
        for gap in _gaps(annotation, box, masked, lost):
            count.gaps[gap] += 1
        if image and image['id'] not in sizes:  # not read, but parsed
            continue
        count.total += 1
        with_mask += bool(annotation.get('segmentation'))
        reason = reason or ('' if masked else NO_MASK)
        if reason:
            count.reasons[reason] += 1
            shown = count.examples.setdefault(reason, [])
            if len(shown) < 3:
                shown.append(f'{annotation.get("id")}')
        else:
            count.used += 1
        if box and not lost:
            normalised += min(box) >= 0 and max(box) <= 1
            corners += box[0] < box[2] and box[1] < box[3]
            if size:
                right, bottom = box[0] + box[2], box[1] + box[3]
                beyond += right > size[0] * 1.02 + 2 or bottom > size[1] * 1.02 + 2
    boxes = count.total - count.reasons[NO_BOX] - count.reasons[NO_IMAGE]
    if use.masks and count.total and not with_mask:
        count.advice = NO_MASKS
    elif normalised > boxes / 2:
        count.advice = NORMALISED
    elif corners == boxes and beyond > boxes / 10:
        count.advice = CORNERS
    elif not count.used:
        count.advice = _other_types(content)
    count.reasons += Counter()  # without those that were only asked for
    return count


def _reason(
    annotation: dict,
    box: Sequence[float] | None,
    image: dict | None,
    size: tuple[int, int] | None,
    named: dict[Any, bool],
) -> str:
    """Why an object is not used, but for its mask; '' if it is."""
    ours = find(annotation, 'category_id', named)
    if image is None:
        return NO_IMAGE
    if ours is None:
        return NO_CATEGORY
    if box is None:
        return NO_BOX
    if not ours:
        return LEFT_OUT
    if annotation.get('ignore'):
        return IGNORED
    left, top, width, height = box
    if width < 0 or height < 0:
        return NEGATIVE
    if width < 1 or height < 1:
        return SMALL
    if size and not (-width < left < size[0] and -height < top < size[1]):
        return OUTSIDE
    return CROWD if annotation.get('iscrowd') else ''


def _gaps(
    annotation: dict, box: Sequence[float] | None, masked: bool, lost: bool
) -> list[str]:
    """What must be completed before MMDetection and the COCO API read an annotation."""
    gaps = [] if 'id' in annotation else ['ids of annotations']
    if lost:
        return [*gaps, 'objects left out']
    if 'iscrowd' not in annotation:
        gaps.append('iscrowd=0')
    # An area of 0 is one only where there is nothing.
    if not area_of(annotation) and ('area' not in annotation or min(box[2:]) >= 1):
        gaps.append('areas, from boxes')
    if not masked:
        gaps.append('objects ignored for want of a mask')
    return gaps


def _other_types(content: dict[str, Any]) -> str:
    """A hint, where ids would fit if numbers and words were written alike."""
    for key, part in (('image_id', 'images'), ('category_id', 'categories')):
        ids = {item['id'] for item in content[part]}
        asked = [annotation.get(key) for annotation in content['annotations']]
        if {*map(str, asked)} & {*map(str, ids)} and not any(
            find({key: value}, key, dict.fromkeys(ids, True)) for value in asked
        ):
            return (
                f' {key} is a {type(asked[0]).__name__}, and the ids of `{part}` are '
                f'{type(next(iter(ids))).__name__}: write both alike.'
            )
    return ''
