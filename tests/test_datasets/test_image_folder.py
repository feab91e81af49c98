import warnings

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image
from torch.utils.data import DataLoader

from mmpospretrain.datasets import (
    BrokenImagesError,
    ImageFolder,
    image_folder,
    read_image,
    resolve_image_source,
)
from mmpospretrain.registry import DATASETS


def save_images(folder, number, suffix='.png'):
    """Number ``i`` is grey of tone ``i``."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        Image.new('RGB', (8, 6), (index,) * 3).save(folder / f'{index:03d}{suffix}')
    return folder


def break_images(folder, *indices):
    for index in indices:
        (folder / f'{index:03d}.png').write_bytes(b'')


def get_tone(data):
    """Transform: the sample is the tone of the image, which tells its number."""
    return int(data['img'][0, 0, 0])


@pytest.fixture(autouse=True)
def log_file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp('log') / 'run.log'
    logger = MMLogger.get_instance(request.node.name, log_file=str(path))
    logger.handlers = [logger.handlers[-1]]  # not to pytest's stream, closed by then
    return path


class TestFinding:
    def test_flat_nested_and_upper_case(self, tmp_path):
        save_images(tmp_path, 2)
        save_images(tmp_path / 'a' / 'b', 3, '.JPEG')
        save_images(tmp_path / '.hidden', 1)
        (tmp_path / 'notes.txt').write_text('no image')
        dataset = ImageFolder(data_root=str(tmp_path))
        assert len(dataset) == 5
        assert dataset[4]['img'].shape == (6, 8, 3)
        assert dataset[4]['img_shape'] == dataset[4]['ori_shape'] == (6, 8)
        assert dataset[4]['img_path'].endswith('002.JPEG')
        assert 'gt_label' not in dataset[0]

    @pytest.mark.parametrize('suffix', image_folder.EXTENSIONS)
    def test_every_extension_is_found_and_read(self, tmp_path, suffix):
        image = Image.new('L', (8, 6), 200)
        image.save(tmp_path / f'image{suffix}')
        (sample,) = ImageFolder(data_root=str(tmp_path))
        assert np.abs(sample['img'].astype(int) - 200).max() <= 2

    def test_built_by_its_registry_name(self, tmp_path):
        save_images(tmp_path, 1)
        config = {'type': 'mmpospretrain.ImageFolder', 'data_root': str(tmp_path)}
        assert isinstance(DATASETS.build(config), ImageFolder)

    def test_folders_as_labels(self, tmp_path):
        save_images(tmp_path / 'cat', 1)
        save_images(tmp_path / 'dog', 2)
        dataset = ImageFolder(data_root=str(tmp_path), with_label=True)
        assert dataset.CLASSES == ('cat', 'dog')
        assert dataset.get_gt_labels().tolist() == [0, 1, 1]

    def test_list_with_and_without_labels(self, tmp_path):
        save_images(tmp_path / 'my pictures', 3)
        (tmp_path / 'list.txt').write_text(
            'my pictures/000.png 7\n\n  my pictures/001.png\t-1\n'
            'my pictures/002.png 4\n'
        )
        common = {'data_root': str(tmp_path), 'ann_file': 'list.txt'}
        dataset = ImageFolder(**common, pipeline=[get_tone])
        assert list(dataset) == [0, 1, 2]
        labelled = ImageFolder(**common, with_label=True)
        assert labelled.get_gt_labels().tolist() == [7, -1, 4]

    def test_list_with_blanks_before_numbers(self, tmp_path):
        Image.new('L', (2, 2), 5).save(tmp_path / 'holiday 2.png')
        (tmp_path / 'list.txt').write_text('holiday 2.png\nholiday 2.png 9\n')
        dataset = ImageFolder(
            data_root=str(tmp_path), ann_file='list.txt', pipeline=[get_tone]
        )
        assert list(dataset) == [5, 5]

    def test_list_without_the_labels_asked_for(self, tmp_path):
        (tmp_path / 'list.txt').write_text('a.png 1\nb.png\n')
        with pytest.raises(ValueError, match=r"no label for 'b\.png'"):
            ImageFolder(data_root=str(tmp_path), ann_file='list.txt', with_label=True)

    def test_wrong_path_empty_folder_empty_list(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r'does not exist: .*nowhere'):
            ImageFolder(data_root=str(tmp_path / 'nowhere'))
        with pytest.raises(FileNotFoundError, match='nowhere'):
            ImageFolder(data_root=str(tmp_path), ann_file='nowhere.txt')
        (tmp_path / 'empty').mkdir()
        with pytest.raises(
            ValueError, match=r'no image in .*: the folder is empty.* end in \.bmp'
        ):
            ImageFolder(data_root=str(tmp_path / 'empty'))
        (tmp_path / 'list.txt').write_text('\n  \n')
        with pytest.raises(ValueError, match=r'list\.txt names no image'):
            ImageFolder(data_root=str(tmp_path), ann_file='list.txt')

    def test_folder_of_one_other_file(self, tmp_path):
        (tmp_path / 'a.mp4').touch()
        with pytest.raises(ValueError, match=r'saw 1 other file \(1 × \.mp4\), at any'):
            ImageFolder(data_root=str(tmp_path))

    def test_folder_of_other_files(self, tmp_path):
        for name in ('a.mp4', 'b.mp4', 'README'):
            (tmp_path / name).touch()
        message = r'saw 3 other files \(2 × \.mp4, 1 × no extension\).*\.bmp \.jpeg '
        with pytest.raises(ValueError, match=message):
            ImageFolder(data_root=str(tmp_path))

    @pytest.mark.parametrize('share', [-0.1, 1.1, float('nan')])
    def test_share_out_of_range(self, tmp_path, share):
        with pytest.raises(ValueError, match=r'max_broken_share must be in \[0, 1\]'):
            ImageFolder(data_root=str(tmp_path), max_broken_share=share)


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


def test_the_readers_place_in_a_pipeline(tmp_path):
    save_images(tmp_path, 1)
    loader = {'type': 'LoadImageFromFile', 'imdecode_backend': 'cv2'}
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=[loader, get_tone])
    assert dataset.pipeline.transforms == [get_tone]
    assert dataset[0] == 0
    for options in ({'to_float32': True}, {'color_type': 'grayscale'}):
        with pytest.raises(ValueError, match='uint8 colour images'):
            ImageFolder(data_root=str(tmp_path), pipeline=[{**loader, **options}])


class TestBrokenImages:
    @pytest.fixture
    def photograph(self):
        noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
        return Image.fromarray(noise)

    @pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
    def test_truncated_file_is_skipped(self, tmp_path, photograph, suffix):
        save_images(tmp_path, 5)
        path = tmp_path / f'truncated{suffix}'
        photograph.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])
        assert list(dataset) == [0, 1, 2, 3, 4, 0]

    @pytest.mark.parametrize(
        'content', [b'', b'no image at all', b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff\xe0']
    )
    def test_no_image_inside(self, tmp_path, content):
        save_images(tmp_path, 3)
        (tmp_path / '001.png').write_bytes(content)
        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])
        assert list(dataset) == [0, 2, 2]

    def test_vanished_file(self, tmp_path):
        save_images(tmp_path, 3)
        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])
        (tmp_path / '002.png').unlink()
        assert list(dataset) == [0, 1, 0]

    def test_a_replacement_keeps_its_own_number(self, tmp_path):
        break_images(save_images(tmp_path, 3), 1)
        dataset = ImageFolder(data_root=str(tmp_path))
        assert [sample['sample_idx'] for sample in dataset] == [0, 2, 2]

    @pytest.mark.parametrize('workers', [0, 1])
    def test_the_error_is_one_line(self, tmp_path, workers):
        """Also from a worker, where PyTorch puts its traceback before the message."""
        break_images(save_images(tmp_path, 6), 2, 4)
        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])
        with pytest.raises(BrokenImagesError) as error:
            list(DataLoader(dataset, num_workers=workers))
        message = str(error.value)
        assert message.startswith('2 of 6 images cannot be read')
        assert 'raise max_broken_share of the data set, in training by --' in message
        assert '\n' not in message

    def test_logged_once_and_opened_once(self, tmp_path, log_file, monkeypatch):
        break_images(save_images(tmp_path, 4), 1)
        opened = []

        def read(path):
            opened.append(path)
            return read_image(path)

        monkeypatch.setattr(image_folder, 'read_image', read)
        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])
        for _ in range(3):
            assert list(dataset) == [0, 2, 2, 3]
        assert sum(path.endswith('001.png') for path in opened) == 1
        output = log_file.read_text()
        assert output.count('001.png') == 1
        assert '1 of 4 images so far' in output
        assert 'UnidentifiedImageError' in output

    # A spawned worker imports the whole package: one of them, kept for both epochs.
    @pytest.mark.parametrize(('context', 'workers'), [('fork', 2), ('spawn', 1)])
    def test_workers_share_what_they_find(
        self, tmp_path, log_file, capfd, context, workers
    ):
        break_images(save_images(tmp_path, 12), 3, 8)
        dataset = ImageFolder(
            data_root=str(tmp_path), pipeline=[get_tone], max_broken_share=0.2
        )
        loader = DataLoader(
            dataset,
            batch_size=3,
            num_workers=workers,
            persistent_workers=context == 'spawn',
            multiprocessing_context=context,
        )
        expected = [0, 1, 2, 4, 4, 5, 6, 7, 9, 9, 10, 11]
        for _ in range(2):
            assert torch.cat(list(loader)).tolist() == expected
        output = log_file.read_text() + capfd.readouterr().out  # spawn: own logger
        assert output.count('003.png') == 1
        assert output.count('008.png') == 1
        assert dataset._broken.nonzero().flatten().tolist() == [3, 8]

    def test_a_replacement_draws_no_random_number(self, tmp_path, monkeypatch):
        break_images(save_images(tmp_path, 4), 1)
        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])
        torch_state = torch.get_rng_state()
        with monkeypatch.context() as patch:  # what BaseDataset would draw from
            patch.setattr(np.random, 'randint', None)
            assert dataset[1] == 2
        assert torch.equal(torch.get_rng_state(), torch_state)

    def test_exactly_the_share_is_allowed(self, tmp_path):
        break_images(save_images(tmp_path, 100), 10, 20)
        dataset = ImageFolder(data_root=str(tmp_path), max_broken_share=0.02)
        assert len(list(dataset)) == 100

    def test_more_than_the_share_stops(self, tmp_path):
        break_images(save_images(tmp_path, 100), 10, 20)
        message = (
            r'2 of 100 images cannot be read.* limit is 1\.00%: .*010\.png, .*020\.png'
            r'\. .*max_broken_share'
        )
        with pytest.raises(RuntimeError, match=message):
            list(ImageFolder(data_root=str(tmp_path)))

    def test_a_single_one_stops_only_where_none_is_allowed(self, tmp_path):
        break_images(save_images(tmp_path, 5), 2)
        assert len(list(ImageFolder(data_root=str(tmp_path)))) == 5
        with pytest.raises(RuntimeError, match='1 of 5'):
            list(ImageFolder(data_root=str(tmp_path), max_broken_share=0))

    @pytest.mark.parametrize(
        ('number', 'share', 'workers'),
        [(1, 0.01, 0), (6, 0.01, 0), (6, 1, 0), (6, 1, 1)],
    )
    def test_no_readable_image_is_one_error(self, tmp_path, number, share, workers):
        break_images(save_images(tmp_path, number), *range(number))
        dataset = ImageFolder(data_root=str(tmp_path), max_broken_share=share)
        with pytest.raises(
            RuntimeError, match=rf'\d of {number} images cannot be read'
        ):
            next(iter(DataLoader(dataset, num_workers=workers)))

    def test_long_lists_of_paths_are_cut(self, tmp_path):
        break_images(save_images(tmp_path, 9), *range(9))
        with pytest.raises(RuntimeError, match=r'004\.png, …\. ') as error:
            _ = ImageFolder(data_root=str(tmp_path), max_broken_share=0.99)[0]
        assert '005.png' not in str(error.value)

    def test_errors_of_transforms_are_raised(self, tmp_path):
        save_images(tmp_path, 3)

        def divide(data):
            raise ValueError('a mistake in the transform')

        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[divide])
        with pytest.raises(ValueError, match='a mistake'):
            _ = dataset[0]
        assert not dataset._broken.any()

    def test_lack_of_memory_is_no_fault_of_the_image(self, tmp_path, monkeypatch):
        def read(path):
            raise MemoryError

        save_images(tmp_path, 3)
        monkeypatch.setattr(image_folder, 'read_image', read)
        with pytest.raises(MemoryError):
            _ = ImageFolder(data_root=str(tmp_path))[0]

    def test_subsets_count_for_themselves(self, tmp_path):
        break_images(save_images(tmp_path, 6), 0)
        dataset = ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])
        assert dataset[0] == 1
        assert list(dataset.get_subset([4, 0, 5])) == [4, 5, 5]
        dataset.get_subset_([3, 4])
        assert list(dataset) == [3, 4]


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
