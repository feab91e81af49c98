"""Image folders and lists. PhotoShapes is a program of its own: see photoshapes.py."""

from .image_folder import ImageFolder, read_image
from .image_source import resolve_image_source

__all__ = ['ImageFolder', 'read_image', 'resolve_image_source']
