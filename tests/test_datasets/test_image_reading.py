import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from mmpospretrain.datasets import read_image


class TestReadImage:
    """Left half dark, right half light, whatever the file's mode."""

    DARK, LIGHT = 51, 204

    def save(self, path, mode, **options):
        grey = np.full((4, 8), self.DARK, np.uint8)
        grey[:, 4:] = self.LIGHT
        if mode == 'I;16':
            Image.fromarray(grey.astype(np.uint16) * 257).save(path)
        else:
            Image.fromarray(grey).convert('RGB').convert(mode).save(path, **options)

    @pytest.mark.parametrize(
        ('mode', 'suffix'),
        [
            ('RGB', '.png'),
            ('L', '.jpg'),
            ('L', '.pgm'),
            ('LA', '.png'),
            ('RGBA', '.webp'),
            ('P', '.png'),
            ('CMYK', '.jpg'),
            ('CMYK', '.tif'),
            ('YCbCr', '.jpg'),
            ('I;16', '.png'),
            ('I;16', '.tif'),
        ],
    )
    def test_any_mode_gives_colour_of_8_bits(self, tmp_path, mode, suffix):
        self.save(tmp_path / f'image{suffix}', mode)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            image = read_image(str(tmp_path / f'image{suffix}'))
        assert image.dtype == np.uint8
        assert image.shape == (4, 8, 3)
        assert image.flags.c_contiguous
        assert np.abs(image[:, :3].astype(int) - self.DARK).max() <= 6
        assert np.abs(image[:, 5:].astype(int) - self.LIGHT).max() <= 6

    def test_16_bits_of_a_portable_greymap(self, tmp_path):
        values = np.array([0, 257, 51 * 257, 65535], '>u2')
        (tmp_path / 'a.pgm').write_bytes(b'P5 4 1 65535\n' + values.tobytes())
        image = read_image(str(tmp_path / 'a.pgm'))
        np.testing.assert_array_equal(image[0, :, 0], [0, 1, 51, 255])

    def test_channels_are_blue_green_red(self, tmp_path):
        Image.new('RGB', (2, 2), (10, 20, 30)).save(tmp_path / 'a.png')
        np.testing.assert_array_equal(
            read_image(str(tmp_path / 'a.png'))[0, 0], [30, 20, 10]
        )

    def test_exif_rotation_is_undone(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned a quarter clockwise: the left end comes on top
        self.save(tmp_path / 'a.jpg', 'RGB', exif=exif, quality=95)
        image = read_image(str(tmp_path / 'a.jpg'))
        assert image.shape == (8, 4, 3)
        assert image[:3].max() < 100 < image[5:].min()

    def test_floating_point_is_refused(self, tmp_path):
        Image.new('F', (2, 2), 0.5).save(tmp_path / 'a.tif')
        with pytest.raises(ValueError, match='no agreed range'):
            read_image(str(tmp_path / 'a.tif'))


def chunk(kind, content, crc=None):
    crc = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)


def png_with(*chunks):
    """A PNG file with chunks before its pixels."""
    file = io.BytesIO()
    picture().save(file, 'PNG')
    data = file.getvalue()
    end_of_header = 8 + 25
    return data[:end_of_header] + b''.join(chunks) + data[end_of_header:]


def jpeg_with(*segments):
    """A JPEG file with segments before all others."""
    file = io.BytesIO()
    picture().save(file, 'JPEG', quality=100, subsampling=0)
    parts = b''.join(
        bytes([0xFF, marker]) + struct.pack('>H', len(content) + 2) + content
        for marker, content in segments
    )
    return b'\xff\xd8' + parts + file.getvalue()[2:]


def exif_of(*tags):
    """An EXIF block; tags are (number, type, count, value of up to 4 bytes)."""
    entries = b''.join(
        struct.pack('<HHI', number, kind, count) + value.ljust(4, b'\0')
        for number, kind, count, value in tags
    )
    head = b'Exif\0\0II*\0' + struct.pack('<IH', 8, len(tags))
    return head + entries + bytes(4)


def picture():
    rows, columns = np.mgrid[:12, :20]
    channels = np.stack([8 * rows, 9 * columns, 4 * (rows + columns)], -1)
    return Image.fromarray(channels.astype(np.uint8))


MEGABYTES = zlib.compress(b' ' * 3_000_000)
WRONG_EXIF = b'Exif\0\0II*\0\x08\0\0\0\xff\xff' + 40 * b'\xfe'


class TestPixelsDecide:
    @pytest.mark.parametrize(
        'data',
        [
            png_with(chunk(b'zTXt', b'k\0\0' + MEGABYTES)),
            png_with(chunk(b'iTXt', b'k\0\1\0\0\0' + MEGABYTES)),
            png_with(*(chunk(b'tEXt', b'k\0' + b' ' * 2**20) for _ in range(65))),
            png_with(chunk(b'zTXt', b'k\0\7')),  # no such compression
            png_with(chunk(b'tEXt', b'k\0v', crc=1)),
            png_with(chunk(b'iCCP', b'k\0\0' + MEGABYTES)),
            png_with(chunk(b'iCCP', b'k\0\7')),
            png_with(chunk(b'pHYs', b'\0')),
            png_with(chunk(b'eXIf', b'II*\0\xff\xff')),
            png_with(chunk(b'tIME', b'')),
            jpeg_with((0xE1, WRONG_EXIF)),
            jpeg_with((0xE1, b'Exif\0\0')),
            jpeg_with((0xE2, b'ICC_PROFILE\0\1\1' + b'\xff' * 300)),
            jpeg_with((0xE2, b'MPF\0' + WRONG_EXIF[6:])),
            jpeg_with((0xED, b'Photoshop 3.0\0' + b'8BIM\xff\xff\xff\xff')),
            jpeg_with((0xFE, b'\xff\xfe\0'), (0xEC, b'Ducky')),
        ],
    )
    def test_odd_metadata(self, tmp_path, data, recwarn):
        (tmp_path / 'a').write_bytes(data)
        image = read_image(str(tmp_path / 'a'))
        expected = np.asarray(picture())[..., ::-1]
        assert np.abs(image.astype(int) - expected).max() <= 6  # a JPEG's difference
        assert not recwarn.list

    @pytest.mark.parametrize('ending', ['jpg', 'png', 'webp'])
    @pytest.mark.parametrize(
        'tag',
        [
            (0x0112, 2, 2, b'6\0'),  # a text
            (0x0112, 12, 1, b'\6'),  # a double of eight bytes that are not there
            (0x0112, 5, 1, b'\xff\xff\0\0'),  # a fraction that is not there
            (0x0112, 99, 1, b'\6\0'),  # of no type
            (0x011A, 2, 4, b'72/1'),
            (0x8769, 2, 4, b'EXIF'),
        ],
    )
    def test_mistyped_tags(self, tmp_path, ending, tag, recwarn):
        path = tmp_path / f'a.{ending}'
        picture().save(path, exif=exif_of(tag))
        assert read_image(str(path)).shape == (12, 20, 3)
        assert not recwarn.list

    @pytest.mark.parametrize('ending', ['jpg', 'png', 'webp'])
    def test_a_turned_image_with_a_mistyped_tag(self, tmp_path, ending):
        """Which Pillow cannot write again, as its own way to turn an image does."""
        exif = exif_of((0x0112, 3, 1, b'\6\0'), (0x829A, 2, 4, b'slow'))
        path = tmp_path / f'a.{ending}'
        picture().save(path, exif=exif)
        assert read_image(str(path)).shape == (20, 12, 3)

    @pytest.mark.parametrize('ending', ['jpg', 'png', 'webp', 'tif'])
    @pytest.mark.parametrize('orientation', range(1, 9))
    def test_all_orientations(self, tmp_path, ending, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f'a.{ending}'
        lossless = {} if ending in ('png', 'tif') else {'quality': 100}
        picture().save(path, exif=exif, **lossless)
        image = read_image(str(path))
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            expected = np.asarray(upright)[..., ::-1]
        np.testing.assert_array_equal(image, expected)
        assert image.flags.c_contiguous
        assert min(image.strides) > 0

    @pytest.mark.parametrize('pixels', [50, 100, 239])
    def test_more_pixels_than_pillow_allows(
        self, tmp_path, monkeypatch, recwarn, pixels
    ):
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', pixels)
        picture().save(tmp_path / 'a.png')
        assert read_image(str(tmp_path / 'a.png')).shape == (12, 20, 3)
        assert not recwarn.list
        assert pixels == Image.MAX_IMAGE_PIXELS

    @pytest.mark.parametrize('mode', ['P', 'PA', 'RGBA', 'LA', '1', 'CMYK', 'I;16'])
    @pytest.mark.parametrize('size', [(1, 1), (1, 7), (7, 1)])
    def test_tiny_images_of_all_modes(self, tmp_path, mode, size, recwarn):
        image = Image.new('L', size, 255)
        image = image.convert('RGBA').convert(mode) if mode == 'PA' else image
        image = Image.new(mode, size, 65535) if mode == 'I;16' else image.convert(mode)
        ending, options = 'tif', {}
        if mode == 'P':
            ending, options = 'png', {'transparency': bytes(range(256))}
        image.save(tmp_path / f'a.{ending}', **options)
        image = read_image(str(tmp_path / f'a.{ending}'))
        assert image.shape == (*reversed(size), 3)
        assert image.min() >= 250
        assert not recwarn.list

    @pytest.mark.parametrize('ending', ['gif', 'webp', 'png', 'tif', 'mpo', 'avif'])
    def test_the_first_frame(self, tmp_path, ending):
        frames = [Image.new('RGB', (16, 16), (tone,) * 3) for tone in (200, 100, 0)]
        path = tmp_path / f'a.{ending}'
        frames[0].save(path, save_all=True, append_images=frames[1:])
        image = read_image(str(path))
        assert np.abs(image.astype(int) - 200).max() <= 3

    def test_truncated_all_the_same(self, tmp_path):
        for data in (png_with(chunk(b'tEXt', b'k\0v', crc=1)), jpeg_with()):
            (tmp_path / 'a').write_bytes(data[: len(data) * 2 // 3])
            with pytest.raises(Exception, match=r'(?i)truncated|broken PNG'):
                read_image(str(tmp_path / 'a'))


@pytest.mark.parametrize(
    ('make', 'what'),
    [
        (os.mkfifo, 'no regular file'),
        (os.mkdir, 'a folder'),
        (lambda path: path.symlink_to('/dev/zero'), 'no regular file'),
        (lambda path: path.touch(), 'the file is empty'),
    ],
)
def test_what_would_never_end(tmp_path, make, what):
    make(tmp_path / 'a.png')
    with pytest.raises(Exception, match=what):
        read_image(str(tmp_path / 'a.png'))
