"""Data sets that are built to be asked what they would read."""

from typing import Any

from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS


def build_unread(config: ConfigDict, scope: str | None, **options: Any) -> BaseDataset:
    """A data set of a config, without its pipeline, that has read nothing yet.

    It knows best which classes, suffixes and paths its defaults are.

    Args:
        config: Of the data set, out of its wrappers.
        scope: Where a type without a prefix is looked for.
        **options: In place of those of the config.

    Raises:
        ValueError: If a word stands where classes are listed.
    """
    unread = dict(pipeline=[], lazy_init=True, serialize_data=False)
    config = {**config, **unread, **options, '_scope_': scope}
    config.pop('max_broken_share', None)  # is for reading, and not of every class
    built = DATASETS.build(config)
    classes = built.metainfo.get('classes')
    if isinstance(classes, str):  # and no file, which would have been read
        raise ValueError(
            f'metainfo.classes={classes!r} is neither a list nor a file. A single '
            f'class is written classes=({classes!r},)'
        )
    return built
