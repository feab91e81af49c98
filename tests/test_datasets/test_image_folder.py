import pytest
from drawn_images import get_tone, save_images
from PIL import Image

from mmpospretrain.datasets import ImageFolder
from mmpospretrain.registry import DATASETS


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
            ValueError, match=r'no image in .*: the folder is empty.* such as \.jpg'
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
        message = r'saw 3 other files \(2 × \.mp4, 1 × no extension\), at any depth'
        with pytest.raises(ValueError, match=message):
            ImageFolder(data_root=str(tmp_path))

    def test_endings_of_ones_own(self, tmp_path):
        save_images(tmp_path, 2)
        save_images(tmp_path, 1, '.jpg')
        assert len(ImageFolder(data_root=str(tmp_path), extensions=['.PNG'])) == 2
        with pytest.raises(ValueError, match=r'Images end in \.bmp \.gif'):
            ImageFolder(data_root=str(tmp_path), extensions=['.gif', '.bmp'])

    @pytest.mark.parametrize(
        ('names', 'expected'),
        [
            (['a.mp4', 'b.mp4', 'README'], ' left out: 2 × .mp4, 1 × no extension'),
            (['deep.d.ts'], ' left out: 1 × .ts'),
            (['.hidden'], None),
            ([f'{i}.{i}' for i in range(7)], ', …'),
        ],
    )
    def test_the_log_says_how_many_and_what_is_left_out(
        self, tmp_path, log_file, names, expected
    ):
        save_images(tmp_path / 'images', 3)
        for name in names:
            (tmp_path / 'images' / name).touch()
        ImageFolder(data_root=str(tmp_path / 'images'))
        line = log_file.read_text().rstrip()
        assert f'3 images of {tmp_path}/images' in line
        assert line.endswith(expected or '/images')
        assert line.count('\n') == 0

    @pytest.mark.parametrize('share', [-0.1, 1.1, float('nan'), 'all'])
    def test_share_out_of_range(self, tmp_path, share):
        with pytest.raises(ValueError, match=r'max_broken_share must be in \[0, 1\]'):
            ImageFolder(data_root=str(tmp_path), max_broken_share=share)


def test_the_readers_place_in_a_pipeline(tmp_path):
    save_images(tmp_path, 1)
    loader = {'type': 'LoadImageFromFile', 'imdecode_backend': 'cv2'}
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=[loader, get_tone])
    assert dataset.pipeline.transforms == [get_tone]
    assert dataset[0] == 0
    for options in ({'to_float32': True}, {'color_type': 'grayscale'}):
        with pytest.raises(ValueError, match='uint8 colour images'):
            ImageFolder(data_root=str(tmp_path), pipeline=[{**loader, **options}])
