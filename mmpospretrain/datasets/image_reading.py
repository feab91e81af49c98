"""Decoding of images that nobody has looked at: pixels decide, metadata never."""

import io
import os.path as osp
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mmengine import fileio
from PIL import ExifTags, Image, UnidentifiedImageError

UPRIGHT = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG = b'\x89PNG\r\n\x1a\n'
JPEG = b'\xff\xd8'


def read_image(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Decode an image of any mode, upright by its EXIF tag: (H, W, 3) uint8, BGR.

    A transparency channel is dropped; of an animation, the first frame is read. Grey
    values of 16 bits are scaled to 8, where Pillow's conversion would clip them. Text,
    tags and profiles that are damaged or larger than Pillow allows do no harm, and
    images may have any number of pixels.

    Args:
        path: Of a regular file, or a URL.
        backend_args: Of ``mmengine.fileio.get``.

    Raises:
        Exception: Of nearly any type, if the file is missing, corrupt or truncated.
    """
    require_regular(path)
    data = fileio.get(path, backend_args=backend_args)
    if not data:
        raise UnidentifiedImageError('the file is empty')
    try:
        return _decode(data)
    except MemoryError:
        raise
    except Exception:  # Pillow's plugins raise nearly anything
        bare = _without_metadata(data)
        if bare == data:
            raise
        return _decode(bare)


def require_regular(path: str) -> None:
    """Raise a ValueError for a folder, and for what may never end, as a FIFO."""
    if osp.exists(path) and not osp.isfile(path):
        kind = 'a folder' if osp.isdir(path) else 'no regular file'
        raise ValueError(f'it is {kind}')


@contextmanager
def _without_limits() -> Iterator[None]:
    """Let Pillow open images of any size, and say nothing about metadata.

    Its warnings name no file. The limit is a variable of Pillow's module; it is there
    for servers that strangers send images to, and stays as it is for other readers.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _decode(data: bytes) -> np.ndarray:
    with _without_limits(), _open(data) as image:
        image.load()
        if (orientation := _orientation(image)) in UPRIGHT:
            image = image.transpose(UPRIGHT[orientation])
        if image.mode == 'F':
            raise ValueError('floating-point pixels have no agreed range')
        if image.mode.startswith('I'):
            grey = np.asarray(image).clip(0, 65535) // 257
            image = Image.fromarray(grey.astype(np.uint8))
        return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:  # which names an object in memory
        raise UnidentifiedImageError('no image, or of a kind unknown here') from error


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged EXIF block raises nearly anything
        return 1
    return orientation if isinstance(orientation, int) else 1


def _without_metadata(data: bytes) -> bytes:
    """A PNG or JPEG file without text, tags, profiles, thumbnails and comments."""
    if data.startswith(PNG):
        return PNG + b''.join(_png_chunks(data))
    if data.startswith(JPEG):
        return JPEG + b''.join(_jpeg_segments(data))
    return data


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Chunks that a picture cannot do without, and sound ones that say more of it."""
    place = len(PNG)
    while place < len(data):
        length, kind = struct.unpack('>I4s', data[place : place + 8].ljust(8, b'\0'))
        chunk = data[place : place + 12 + length]
        place += len(chunk)
        critical = kind[:1].isupper()
        sound = chunk[-4:] == struct.pack('>I', zlib.crc32(chunk[4:-4]))
        if critical or (sound and kind in (b'tRNS', b'eXIf')):
            yield chunk


def _jpeg_segments(data: bytes) -> Iterator[bytes]:
    """All but application data and comments; Adobe's tells how colours are stored."""
    place = len(JPEG)
    while data[place : place + 1] == b'\xff' and len(data) >= place + 4:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if marker == 0xDA:  # start of scan: pixels from here on
            break
        if not (0xE1 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:
            yield data[place : place + 2 + length]
        place += 2 + length
    yield data[place:]
