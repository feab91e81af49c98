"""What a config does with annotations in COCO's format."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.registry import TRANSFORMS

from mmpospretrain.registry import registered

from .broken_images import MAX_BROKEN_SHARE


@dataclass(frozen=True)
class Use:
    """What a loader, with its metrics, does with a file of annotations."""

    training: bool
    needs_objects: bool = True
    """Whether it is of no use without objects."""
    masks: str = ''
    """'any' or 'polygons', if objects must have such masks."""
    looks_at_images: bool = True
    """Whether images are read from files here."""
    turned: bool = True
    """Whether they are turned by their EXIF orientation."""
    max_broken_share: float = MAX_BROKEN_SHARE
    """Share of images, in [0, 1], that may be skipped as they cannot be read."""


def use_of(cfg: Config, loader: str, dataset: ConfigDict) -> Use:
    """The use of a data set by one of the loaders of a config."""
    training = loader == 'train_dataloader'
    metrics = [] if training else [*evaluators(cfg, loader)]
    pipeline = [*_steps(dataset.get('pipeline') or [])]
    with_mask = [step for step in pipeline if step.get('with_mask')]
    masks = ''
    if with_mask or any('segm' in metric.get('metric', '') for metric in metrics):
        polygons = any(step.get('poly2mask') is False for step in with_mask)
        masks = 'polygons' if polygons else 'any'
    reading = [step for step in pipeline if _reads_files(step, cfg)]
    (step, *_) = reading or [{}]
    turned = step.get('color_type', 'color') in ('color', 'grayscale') and step.get(
        'imdecode_backend', 'cv2'
    ) in ('cv2', 'pillow')
    return Use(
        training,
        needs_objects=training or not all(m.get('format_only') for m in metrics),
        masks=masks,
        looks_at_images=bool(reading) and not step.get('backend_args'),
        turned=turned,
        max_broken_share=dataset.get('max_broken_share', MAX_BROKEN_SHARE),
    )


def evaluators(cfg: Config, loader: str) -> Iterator[ConfigDict]:
    """The metrics of a validation or test."""
    found = cfg.get(loader.replace('dataloader', 'evaluator')) or []
    yield from found if isinstance(found, list | tuple) else [found]


def _steps(part: Any) -> Iterator[dict]:
    """All transforms of a pipeline, also those within others."""
    if isinstance(part, list | tuple):
        for item in part:
            yield from _steps(item)
    elif isinstance(part, dict):
        yield part
        for item in part.values():
            yield from _steps(item)


def _reads_files(step: dict, cfg: Config) -> bool:
    if 'type' not in step:
        return False
    kind = registered(step['type'], TRANSFORMS, cfg.get('default_scope'))
    return isinstance(kind, type) and issubclass(kind, LoadImageFromFile)
