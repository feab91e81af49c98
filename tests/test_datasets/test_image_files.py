import os

import pytest
from drawn_images import get_tone, save_images
from PIL import Image

from mmpospretrain.datasets import ImageFolder, read_image
from mmpospretrain.datasets.image_files import EXTENSIONS, find_circle, list_images
from mmpospretrain.visualization import find_images

KINDS = Image.registered_extensions()
# Kinds that Pillow can write, and the modes that some of them insist on.
WRITTEN = [ending for ending in EXTENSIONS if KINDS[ending] in Image.SAVE]
MODES = {'MSP': '1', 'XBM': '1', 'BLP': 'P', 'QOI': 'RGB'}


@pytest.mark.filterwarnings('ignore:IM image format is deprecated')
@pytest.mark.parametrize('ending', WRITTEN)
def test_endings_that_pillow_writes_are_found_and_read(tmp_path, ending):
    image = Image.new('L', (16, 16), 255).convert(MODES.get(KINDS[ending], 'L'))
    names = [f'image{ending.upper()}', f'image{ending}']
    for name in names:
        image.save(tmp_path / name, format=KINDS[ending])
    found, others = list_images(str(tmp_path))
    assert found == names
    assert not others
    for name in names:
        assert read_image(str(tmp_path / name)).min() >= 250


def test_endings_that_people_have_and_that_have_no_pixels():
    assert {'.jfif', '.gif', '.jpe', '.avif', '.webp', '.mpo', '.tga'} <= {*EXTENSIONS}
    assert not {'.pdf', '.eps', '.ps', '.mpg', '.h5', '.wmf', '.txt'} & {*EXTENSIONS}


@pytest.mark.parametrize(
    ('links', 'expected'),
    [
        ({'a/itself': '.'}, 3),
        ({'a/root': '..'}, 3),
        ({'a/to_b': '../b', 'b/to_a': '../a'}, 3),
        ({'first': 'b', 'second': 'b'}, 3),  # a circle it is not, and read once too
        ({'away': '{outside}'}, 5),
        ({'away': '{outside}', '{outside}/back': '{folder}'}, 5),
        ({'loop.png': 'loop.png', 'nowhere.png': 'gone.png'}, 3),
        ({'linked.png': 'a/000.png'}, 4),
    ],
)
def test_each_real_folder_is_read_once(tmp_path, links, expected):
    folder, outside = tmp_path / 'folder', tmp_path / 'outside'
    save_images(folder / 'a', 2)
    save_images(folder / 'b', 1)
    save_images(outside, 2)
    for link, target in links.items():
        where = link.format(outside=outside)
        (folder / where).symlink_to(target.format(outside=outside, folder=folder))
    names, _ = list_images(str(folder))
    assert len(names) == expected
    assert names == sorted(names)
    assert {'a/000.png', 'a/001.png', 'b/000.png'} <= {*names}  # not through a link
    assert len(find_images([folder], 99)) == expected


def test_what_is_no_file_is_no_image(tmp_path):
    save_images(tmp_path / 'a_folder.png', 1)
    os.mkfifo(tmp_path / 'fifo.png')
    (tmp_path / 'device.png').symlink_to('/dev/zero')
    assert list_images(str(tmp_path))[0] == ['a_folder.png/000.png']


def test_a_folder_that_must_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, 'Permission denied', path)

    save_images(tmp_path, 1)
    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(ValueError, match=r'cannot read the folder .*Permission denied'):
        list_images(str(tmp_path))


def test_classes_are_folders_that_are_not_hidden(tmp_path, log_file):
    for name in ('cat', 'dog', '.ipynb_checkpoints'):
        save_images(tmp_path / name / 'deep', 2)
    save_images(tmp_path, 1)  # of no class
    (tmp_path / 'dog' / 'again').symlink_to('..')
    (tmp_path / 'eel').mkdir()
    dataset = ImageFolder(data_root=str(tmp_path), with_label=True)
    assert dataset.CLASSES == ('cat', 'dog', 'eel')
    assert dataset.get_gt_labels().tolist() == [0, 0, 1, 1]
    assert 'no image of 1 classes: eel' in log_file.read_text()


def test_other_folders_than_classes(tmp_path):
    save_images(tmp_path / 'cat', 2)
    with pytest.raises(ValueError, match=r'1 folders of classes, .* names 2\.'):
        ImageFolder(
            data_root=str(tmp_path), with_label=True, metainfo={'classes': ('a', 'b')}
        )
    save_images(tmp_path / 'flat', 1)
    with pytest.raises(ValueError, match=r'no folder of .* each class needs one'):
        ImageFolder(data_root=str(tmp_path / 'flat'), with_label=True)


@pytest.mark.parametrize(
    ('link', 'target', 'circle'),
    [('a/up', '..', True), ('a/b/c', '../../a', True), ('d', 'a', False)],
)
def test_circles_are_found(tmp_path, link, target, circle):
    (tmp_path / 'a' / 'b').mkdir(parents=True)
    (tmp_path / link).symlink_to(target)
    found = find_circle(str(tmp_path))
    assert (found == str(tmp_path / link)) == circle


def test_bytes_that_are_not_utf_8_in_a_name(tmp_path):
    name = os.fsdecode(b'caf\xe9')
    save_images(tmp_path / name, 2)
    assert list(ImageFolder(data_root=str(tmp_path), pipeline=[get_tone])) == [0, 1]
