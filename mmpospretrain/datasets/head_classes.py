"""Outputs of a model's heads, compared with the classes of the data.

MMDetection trains a head with too few outputs without a word, as the label that is too
high means background there; one with too many fails, at best, in the first validation.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from inspect import signature
from typing import Any

from mmengine import list_from_file
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, MODELS

from mmpospretrain.registry import registered

from .unread import build_unread
from .wording import YOUR_CLASSES, some

# Bases whose `num_classes` counts the classes of the data; these, only the things.
ROI_HEADS = {
    'mmdet.BBoxHead',
    'mmdet.FCNMaskHead',
    'mmdet.GlobalContextHead',
    'mmdet.MaskIoUHead',
    'mmdet.MaskPointHead',
    'mmdet.SABLHead',
}
HEADS = ROI_HEADS | {
    'mmdet.BaseDenseHead',
    'mmdet.BaseMaskHead',
    'mmdet.DETRHead',
    'mmdet.EQLV2Loss',
    'mmdet.HeuristicFusionHead',
    'mmdet.MaskFormerFusionHead',
    'mmdet.PanopticFPNHead',
    'mmdet.SeesawLoss',
    'mmdet.YOLACTSegmHead',
    'mmpretrain.ClsHead',
    'mmpretrain.MultiLabelClsHead',
    'mmpretrain.TimmClassifier',
    'mmseg.BaseDecodeHead',
    'mmseg.KernelUpdateHead',
}
# Proposals, words, borders, depths: these count something else, or nothing.
OTHERS = {
    'mmdet.ATSSVLFusionHead',
    'mmdet.CascadeRPNHead',
    'mmdet.EmbeddingRPNHead',
    'mmdet.GroundingDINOHead',
    'mmdet.RPNHead',
    'mmdet.YOLACTProtonet',
    'mmseg.STDCHead',
    'mmseg.SideAdapterCLIPHead',
    'mmseg.VPDDepthHead',
}
# Of a model; task_heads have classes of their own each.
NO_HEADS = {'backbone', 'neck', 'rpn_head', 'task_heads', 'test_cfg', 'train_cfg'}


@dataclass(frozen=True)
class Head:
    """What a config says of the outputs of one head."""

    path: str
    option: str
    """Says the number of outputs, or of those for things."""
    outputs: int
    stuff: int = 0
    """Outputs beside those of ``option``."""
    only_things: bool = False
    """Whether classes of stuff, as of a panoptic data set, are not for this head."""


def check_heads(
    cfg: Config, datasets: Iterable[tuple[str, ConfigDict]], scope: str | None
) -> None:
    """See that every head has an output for each class of the data, and no more.

    Heads of unknown types, and data sets that don't name their classes, pass.

    Args:
        cfg: A whole config.
        datasets: Names of loaders, and the data sets that they read.
        scope: Where types without a prefix are looked for.

    Raises:
        ValueError: Names each head that differs, its outputs, the classes, and the
            option that mends it.
    """
    model = cfg.get('model') or {}
    heads = [*_heads(model, 'model', scope), *_last_layer(model), *_augments(cfg)]
    differing: dict[tuple[Head, tuple], list[str]] = {}
    for loader, dataset in datasets if heads else ():
        classes, things = _classes(dataset, scope)
        for head in heads:
            expected = things if head.only_things else classes
            if expected and head.outputs != len(expected):
                loaders = differing.setdefault((head, expected), [])
                loaders += [loader] if loader not in loaders else []
    if differing:
        lines = [
            f'{head.path} has {head.outputs} outputs, but the data of '
            f'{", ".join(loaders)} have {len(expected)} classes: {some(expected)}.'
            for (head, expected), loaders in differing.items()
        ]
        options = {
            f'{head.path}.{head.option}': len(expected) - head.stuff
            for head, expected in differing
        }
        cured = ' '.join(f'{option}={value}' for option, value in options.items())
        raise ValueError(
            '\n'.join(lines)
            + f'\nIf the data are right: --cfg-options {cured}. If not, '
            'metainfo=dict(classes=…) of the data sets is to name the classes: see '
            f'{YOUR_CLASSES}.'
        )


def _heads(part: Any, path: str, scope: str | None) -> Iterator[Head]:
    """All heads below a part of the model's config that count the data's classes."""
    if isinstance(part, list | tuple):
        for index, item in enumerate(part):
            yield from _heads(item, f'{path}.{index}', scope)
    if not isinstance(part, dict):
        return
    kind = registered(part['type'], MODELS, scope) if 'type' in part else None
    if isinstance(kind, type):
        bases = _bases(kind)
        if bases & HEADS and not bases & OTHERS and not part.get('class_agnostic'):
            yield from _head(path, kind, part, only_things=bool(bases & ROI_HEADS))
    for key, item in part.items():
        if key not in NO_HEADS:
            yield from _heads(item, f'{path}.{key}', scope)


def _head(path: str, kind: type, options: dict, only_things: bool) -> Iterator[Head]:
    """The head, unless it takes its number of outputs from elsewhere."""
    for base in kind.__mro__:
        known = signature(base.__init__).parameters
        for option, other in (
            ('num_classes', None),
            ('num_things_classes', 'num_stuff_classes'),
        ):
            if option in known:
                number, stuff = (
                    options.get(name, known[name].default) if name else 0
                    for name in (option, other)
                )
                if isinstance(number, int) and isinstance(stuff, int):
                    yield Head(path, option, number + stuff, stuff, only_things)
                return
    if isinstance(number := options.get('num_classes'), int):  # passed on, as to timm
        yield Head(path, 'num_classes', number)


def _last_layer(model: dict) -> Iterator[Head]:
    """VGG and its like, which end in a layer of their own, under a head without one."""
    head, backbone = model.get('head') or {}, model.get('backbone') or {}
    ends_there = str(head.get('type')).rpartition('.')[2] == 'ClsHead'
    if ends_there and isinstance(backbone.get('num_classes'), int):
        yield Head('model.backbone', 'num_classes', backbone['num_classes'])


def _augments(cfg: Config) -> Iterator[Head]:
    """Mixup and its like make labels as long as the data preprocessor says."""
    model = cfg.get('model') or {}
    inner = model.get('data_preprocessor')
    options = inner or cfg.get('data_preprocessor') or {}
    augmented = (model.get('train_cfg') or {}).get('augments')
    if (augmented or options.get('batch_augments')) and options.get('num_classes'):
        path = f'{"model." if inner else ""}data_preprocessor'
        yield Head(path, 'num_classes', options['num_classes'])


def _classes(dataset: ConfigDict, scope: str | None) -> tuple[tuple, tuple]:
    """Names of all classes that a data set has, and of its things; () if unknown."""
    kind = registered(dataset.type, DATASETS, scope)
    if 'mmdet.BaseVideoDataset' in _bases(kind):  # tracking is trained on some of them
        return (), ()
    metainfo = dict(dataset.get('metainfo') or {})
    if classes := dataset.get('classes'):  # MMPretrain's
        names = list_from_file(classes) if isinstance(classes, str) else classes
        metainfo = {'classes': names, **metainfo}
    metainfo = getattr(kind, '_load_metainfo', dict)(metainfo)
    classes = metainfo.get('classes')
    if classes is None and 'mmpretrain.CustomDataset' in _bases(kind):  # its folders
        built = build_unread(dataset, scope, lazy_init=False)
        classes = built.metainfo.get('classes')
    if not classes or isinstance(classes, str):  # building it complains of a word
        return (), ()
    return tuple(classes), tuple(metainfo.get('thing_classes') or classes)


def _bases(kind: Any) -> set[str]:
    """Names of a class and its bases, each with the library that it is from."""
    return {
        f'{base.__module__.partition(".")[0]}.{base.__name__}'
        for base in getattr(kind, '__mro__', ())
    }
