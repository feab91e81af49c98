import os

import pytest
from drawn_images import get_tone, save_images

from mmpospretrain.datasets import ImageFolder, resolve_image_source
from mmpospretrain.datasets.image_source import read_list


class TestResolve:
    def build(self, arguments):
        return ImageFolder(**arguments, pipeline=[get_tone])

    @pytest.mark.parametrize('sub_folder', ['.', 'class_a', 'deep/below'])
    def test_flat_and_nested_folder(self, tmp_path, sub_folder):
        save_images(tmp_path / sub_folder, 3)
        train, val = resolve_image_source(tmp_path)
        assert val is None
        assert list(self.build(train)) == [0, 1, 2]

    def test_folder_with_splits(self, tmp_path):
        save_images(tmp_path / 'train' / 'n01440764', 3, '.JPEG')
        save_images(tmp_path / 'val', 2)
        save_images(tmp_path / 'masks' / 'train', 9)
        train, val = resolve_image_source(str(tmp_path))
        assert len(self.build(train)) == 3
        assert len(self.build(val)) == 2

    def test_folder_with_train_alone(self, tmp_path):
        save_images(tmp_path / 'train', 3)
        train, val = resolve_image_source(str(tmp_path))
        assert val is None
        assert len(self.build(train)) == 3

    def test_list_relative_to_its_folder_and_absolute(self, tmp_path):
        near = save_images(tmp_path / 'lists' / 'near', 2)
        far = save_images(tmp_path / 'far', 3)
        (tmp_path / 'lists' / 'mine.txt').write_text(f'near/001.png 4\n{far}/002.png\n')
        assert near.is_dir()
        train, val = resolve_image_source(tmp_path / 'lists' / 'mine.txt')
        assert val is None
        assert list(self.build(train)) == [1, 2]

    def test_relative_to_the_working_directory_and_home(self, tmp_path, monkeypatch):
        save_images(tmp_path / 'images', 1)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv('HOME', str(tmp_path))
        expected = {
            'data_root': str(tmp_path / 'images'),
            'data_prefix': '',
            'ann_file': '',
        }
        assert resolve_image_source('images')[0] == expected
        assert resolve_image_source('~/images')[0] == expected

    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_a_split_without_images(self, tmp_path, split):
        for name in ('train', 'val'):
            save_images(tmp_path / name, 0 if name == split else 2)
        with pytest.raises(ValueError, match=f'no image in .*{split}'):
            resolve_image_source(tmp_path)

    def test_wrong_path(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'no such .*nowhere'):
            resolve_image_source(tmp_path / 'nowhere')

    def test_empty_folder_and_empty_list(self, tmp_path):
        with pytest.raises(ValueError, match='no image in'):
            resolve_image_source(tmp_path)
        (tmp_path / 'list.txt').touch()
        with pytest.raises(ValueError, match='names no image'):
            resolve_image_source(tmp_path / 'list.txt')

    def test_list_of_what_is_not_there(self, tmp_path):
        (tmp_path / 'list.txt').write_text('gone.png 3\n')
        with pytest.raises(
            FileNotFoundError, match=r'first entry .*/gone\.png\. Paths'
        ):
            resolve_image_source(tmp_path / 'list.txt')

    def test_no_list_at_all(self, tmp_path):
        save_images(tmp_path, 1)
        with pytest.raises(ValueError, match=r'000\.png is an image'):
            resolve_image_source(tmp_path / '000.png')
        (tmp_path / 'archive.zip').write_bytes(b'PK\x03\x04\xff\xfe\x80')
        with pytest.raises(ValueError, match='is no text file'):
            resolve_image_source(tmp_path / 'archive.zip')

    @pytest.mark.parametrize(
        ('name', 'message'),
        [('.', 'is no file'), ('fifo.png', 'is no file'), ('', 'names no image')],
    )
    def test_list_of_what_is_no_file(self, tmp_path, name, message):
        os.mkfifo(tmp_path / 'fifo.png')
        (tmp_path / 'list.txt').write_text(f'{name}\n')
        with pytest.raises(ValueError, match=message):
            resolve_image_source(tmp_path / 'list.txt')

    def test_a_fifo_instead_of_a_list(self, tmp_path):
        os.mkfifo(tmp_path / 'list')
        with pytest.raises(ValueError, match='neither a folder nor a regular file'):
            resolve_image_source(tmp_path / 'list')


class TestReadList:
    @pytest.mark.parametrize(
        ('encoding', 'start'),
        [
            ('utf-8', ''),
            ('utf-8-sig', ''),
            ('utf-16-le', '\ufeff'),
            ('utf-16-be', '\ufeff'),
            ('utf-16', ''),
        ],
    )
    @pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
    def test_marks_and_line_ends(self, tmp_path, encoding, start, end):
        lines = ['bär 1.png 3', '', '\tö.png', '日本.png\t-1']
        text = start + end.join(lines)
        (tmp_path / 'list.txt').write_bytes(text.encode(encoding))
        entries = read_list(str(tmp_path / 'list.txt'))
        assert entries == [('bär 1.png', 3), ('ö.png', None), ('日本.png', -1)]

    @pytest.mark.parametrize(
        ('line', 'entry'),
        [
            ('"a b.png"', ('a b.png', None)),
            ('"a b.png" 4', ('a b.png', 4)),
            ('a"b.png', ('a"b.png', None)),
            ('# a.png', ('# a.png', None)),
            ('~a.png 1', ('~a.png', 1)),
            ('2007', ('2007', None)),
        ],
    )
    def test_quotes_and_signs(self, tmp_path, line, entry):
        (tmp_path / 'list.txt').write_text(line)
        assert read_list(str(tmp_path / 'list.txt')) == [entry]

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv('HOME', str(save_images(tmp_path / 'home', 3)))
        (tmp_path / 'list.txt').write_text('~/002.png\n"~/001.png" 7\n')
        where, _ = resolve_image_source(tmp_path / 'list.txt')
        assert list(ImageFolder(**where, pipeline=[get_tone])) == [2, 1]

    def test_bytes_that_are_not_utf_8_are_those_of_a_name(self, tmp_path):
        save_images(tmp_path / os.fsdecode(b'caf\xe9'), 2)
        (tmp_path / 'list.txt').write_bytes(b'caf\xe9/001.png\ncaf\xe9/000.png\n')
        where, _ = resolve_image_source(tmp_path / 'list.txt')
        assert list(ImageFolder(**where, pipeline=[get_tone])) == [1, 0]

    @pytest.mark.parametrize('middle', ['gone.png', 'folder', 'fifo.png'])
    def test_the_middle_of_a_list(self, tmp_path, middle, log_file):
        save_images(tmp_path / 'folder', 3)
        os.mkfifo(tmp_path / 'fifo.png')
        names = ['folder/000.png', middle, 'folder/002.png', 'folder/002.png']
        (tmp_path / 'list.txt').write_text('\n'.join(names))
        where, _ = resolve_image_source(tmp_path / 'list.txt')
        assert list(ImageFolder(**where, pipeline=[get_tone])) == [0, 2, 2, 2]
        assert f'skipped: cannot read {tmp_path / middle}' in log_file.read_text()

    @pytest.mark.parametrize(
        'data', ['a.png'.encode('utf-16-le'), b'\xff\xfea', b'\x7fELF\1\2', b'a\0b']
    )
    def test_no_text(self, tmp_path, data):
        (tmp_path / 'list').write_bytes(data)
        with pytest.raises(ValueError, match='is no text file'):
            read_list(str(tmp_path / 'list'))
