"""One image of PhotoShapes: silhouettes cut from photographs over another photograph.

Pillow draws everything, in 8-bit integers. The sizes are those at which a small ViT
learns positions within minutes from 112² pixels.
"""

from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageOps, ImageStat

VERSION = 2  # to be raised when the same arguments give other files
SHAPES = ('circle', 'square', 'triangle', 'star')

# Every photograph in scikit-image's wheel, save the second view of the motorcycle and
# two with next to no texture (clock_motion, microaneurysms); the rest is graphics. Both
# splits hold colour and grey, objects and plain texture.
PHOTOGRAPHS = {
    'train': (
        'astronaut.png',
        'brick.png',
        'cell.png',
        'chelsea.png',
        'grass.png',
        'hubble_deep_field.jpg',
        'ihc.png',
        'moon.png',
        'motorcycle_left.png',
        'page.png',
        'retina.jpg',
        'text.png',
    ),
    'val': ('camera.png', 'coffee.png', 'coins.png', 'gravel.png', 'rocket.jpg'),
}
SPLITS = tuple(PHOTOGRAPHS)

MAX_SHAPES = 3  # silhouettes in an image, one at least
RADIUS = (0.17, 0.33)  # of the circumscribed circle / side of the image
CENTRE = (0.15, 0.85)  # / side of the image: silhouettes may reach over the edge
ROTATION = 0.3  # radians, either way
MIN_VISIBLE = 0.5  # share of a silhouette that those in front must leave uncovered
SUPERSAMPLING = 4  # per axis, for smooth outlines
ZOOM = (2.0, 5.0)  # short side of the photograph / side of the crop
MIN_CROP = 96  # pixels of the photograph: less is blur
MIN_DEVIATION = 12  # grey levels within a crop: less is a blank patch of sky
MIN_CONTRAST = 25  # levels between the mean colours of a silhouette and what it covers
MAX_TRIES = 20  # redraws for deviation and contrast; the last crop is then taken


class Scene(NamedTuple):
    """One image and what is in it, silhouettes from back to front."""

    image: Image.Image  # RGB, (size, size)
    instances: np.ndarray  # (size, size) uint8: 0 background, k the k-th silhouette
    classes: list[int]  # of each silhouette, an index into SHAPES
    photographs: list[str]  # of the background, then of each silhouette


def draw_scene(split: str, index: int, *, size: int, seed: int) -> Scene:
    """Draw one image of a split; the same arguments give the same image."""
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    classes = rng.integers(len(SHAPES), size=rng.integers(MAX_SHAPES) + 1).tolist()
    names = rng.permutation(PHOTOGRAPHS[split])[: 1 + len(classes)].tolist()
    coverage, instances = _draw_layout(rng, classes, size)
    image = _draw_crop(rng, names[0], size)
    for name, mask in zip(names[1:], coverage, strict=True):
        covered = np.array(ImageStat.Stat(image, mask).mean)
        for _ in range(MAX_TRIES):
            texture = _draw_crop(rng, name, size)
            contrast = np.abs(ImageStat.Stat(texture, mask).mean - covered).max()
            if contrast >= MIN_CONTRAST:
                break
        image.paste(texture, mask=mask)
    return Scene(image, instances, classes, names)


def _draw_layout(
    rng: np.random.Generator, classes: list[int], size: int
) -> tuple[list[Image.Image], np.ndarray]:
    """Silhouettes from back to front, none of them mostly covered, and their ids."""
    while True:
        coverage = [_draw_silhouette(rng, SHAPES[c], size) for c in classes]
        inside = [np.asarray(silhouette) >= 128 for silhouette in coverage]
        instances = np.zeros((size, size), np.uint8)
        for k, mask in enumerate(inside, start=1):
            instances[mask] = k
        if all(
            np.sum(instances == k) >= MIN_VISIBLE * mask.sum()
            for k, mask in enumerate(inside, start=1)
        ):
            return coverage, instances


def _draw_silhouette(rng: np.random.Generator, shape: str, size: int) -> Image.Image:
    """Coverage of every pixel by a randomly placed ``shape``: mode L, 0–255."""
    angle = rng.uniform(-ROTATION, ROTATION)
    rotation = np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    radius, centre = rng.uniform(*RADIUS), rng.uniform(*CENTRE, size=2)
    corners = radius * _outline(shape) @ rotation + centre
    canvas = Image.new('L', (size * SUPERSAMPLING,) * 2)
    ImageDraw.Draw(canvas).polygon(
        [tuple(corner) for corner in corners * canvas.width], fill=255
    )
    return canvas.reduce(SUPERSAMPLING)


def _outline(shape: str) -> np.ndarray:
    """Corners on and within the unit circle, the first one on top: (N, 2) as x, y."""
    corners, inner_radius = {
        'circle': (64, 1.0),
        'square': (4, 1.0),
        'triangle': (3, 1.0),
        'star': (10, 0.45),
    }[shape]
    angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
    if shape == 'square':  # on its side, not on its corner
        angles += np.pi / 4
    radii = np.where(np.arange(corners) % 2, inner_radius, 1.0)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _draw_crop(rng: np.random.Generator, name: str, size: int) -> Image.Image:
    """A random part of a photograph in jittered colours, not blank if it can be."""
    photograph = _load_photograph(name)
    short = min(photograph.size)
    for _ in range(MAX_TRIES):
        side = max(short / rng.uniform(*ZOOM), min(short, MIN_CROP))
        left = rng.uniform(0, photograph.width - side)
        top = rng.uniform(0, photograph.height - side)
        crop = photograph.resize(
            (size, size),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )
        if ImageStat.Stat(crop.convert('L')).stddev[0] >= MIN_DEVIATION:
            break
    if rng.random() < 0.5:
        crop = ImageOps.mirror(crop)
    return _jitter_colours(rng, crop)


def _jitter_colours(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Change saturation, light and tint: one affine map of the colours."""
    saturation, offset = rng.uniform(0.6, 1.4), rng.uniform(-25, 25)
    gains = rng.uniform(0.8, 1.2) * rng.uniform(0.75, 1.25, size=3)
    to_grey = np.tile([0.299, 0.587, 0.114], (3, 1))
    colours = gains[:, None] * (saturation * np.eye(3) + (1 - saturation) * to_grey)
    matrix = np.column_stack([colours, np.full(3, offset)])  # (3, 4)
    return image.convert('RGB', tuple(matrix.ravel().tolist()))


@cache
def _load_photograph(name: str) -> Image.Image:
    """A photograph of the installed scikit-image, never fetched from elsewhere."""
    source = resources.files('skimage.data') / name
    if not source.is_file():
        raise FileNotFoundError(
            f'the installed scikit-image has no photograph {name!r}: reinstall it from '
            'its wheel (pip install --force-reinstall scikit-image)'
        )
    with source.open('rb') as file:
        return Image.open(file).convert('RGB')
