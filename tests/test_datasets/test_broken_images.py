import numpy as np
import pytest
import torch
from drawn_images import break_images, get_tone, save_images
from PIL import Image
from torch.utils.data import DataLoader

from mmpospretrain.datasets import (
    BrokenImagesError,
    ImageFolder,
    image_folder,
    read_image,
)


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
        assert message.endswith('or raise max_broken_share of the data set')
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
        assert dataset.broken.marks.nonzero().flatten().tolist() == [3, 8]

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
        assert not dataset.broken.marks.any()

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
