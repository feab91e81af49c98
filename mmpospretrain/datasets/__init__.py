"""Images of all kinds. PhotoShapes is a program of its own: see photoshapes.py."""

from .broken_images import BrokenImagesError
from .cifar import CIFAR10, CIFAR100
from .class_folders import CustomDataset, ImageNet
from .image_folder import ImageFolder
from .image_reading import read_image
from .image_source import resolve_image_source
from .stanford_cars import StanfordCars
from .tiny_imagenet import TinyImageNet
from .transforms import (
    ColorJitter,
    CropWithBox,
    MultiCrop,
    ResizeShortEdge,
    collate_views,
)

__all__ = [
    'CIFAR10',
    'CIFAR100',
    'BrokenImagesError',
    'ColorJitter',
    'CropWithBox',
    'CustomDataset',
    'ImageFolder',
    'ImageNet',
    'MultiCrop',
    'ResizeShortEdge',
    'StanfordCars',
    'TinyImageNet',
    'collate_views',
    'read_image',
    'resolve_image_source',
]
