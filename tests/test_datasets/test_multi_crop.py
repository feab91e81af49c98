"""Views know where they come from, to the pixel."""

import numpy as np
import pytest
import torch
from mmengine.registry import FUNCTIONS, TRANSFORMS
from mmengine.runner import set_random_seed
from torch.utils.data import DataLoader

from mmpospretrain.models.positions import patch_centres

HEIGHT, WIDTH = 90, 140


def coordinates() -> np.ndarray:
    """An image whose pixels say where their middles are: x, y and nothing."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return np.stack((x, y, 0 * x), axis=-1).astype(np.float32)


def view(scale: int, low: float, high: float, **options) -> list[dict]:
    crop = dict(
        type='mmpospretrain.CropWithBox', scale=scale, crop_ratio_range=(low, high)
    )
    return [{**crop, **options}, dict(type='RandomFlip', prob=0.5)]


def multi_crop(*kinds: list[dict], num_views: list[int] = (2, 3)):
    kinds = kinds or (view(32, 0.3, 1.0), view(16, 0.05, 0.3))
    return TRANSFORMS.build(
        dict(
            type='mmpospretrain.MultiCrop', transforms=[*kinds], num_views=[*num_views]
        )
    )


def sample(image: np.ndarray | None = None) -> dict:
    image = coordinates() if image is None else image
    return dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])


@pytest.fixture(autouse=True)
def seed() -> None:
    set_random_seed(0)  # the transforms draw from NumPy's global generator


def test_boxes_are_exact():
    """Cut out by its box and not resized, a view is that part of the image."""
    image = coordinates()
    for _ in range(50):
        crop = TRANSFORMS.build(view(32, 0.1, 0.9)[0])
        state = np.random.get_state()  # noqa: NPY002
        crop.scale = crop.rand_crop_params(image)[2:]
        np.random.set_state(state)  # noqa: NPY002, to draw the same once more
        results = crop(sample())
        box = results['view_box'] * np.array([WIDTH, HEIGHT] * 2)
        left, top, right, bottom = box.round().astype(int)
        np.testing.assert_allclose(box, [left, top, right, bottom], atol=1e-4)
        np.testing.assert_array_equal(results['img'], image[top:bottom, left:right])


def test_the_box_is_of_this_crop():
    """Drawn once for box and crop, and anew for the next image."""
    crop = TRANSFORMS.build(view(32, 0.1, 0.9)[0])
    centres = []
    for _ in range(20):
        results = crop(sample())
        x1, y1, x2, y2 = results['view_box']
        middle = np.array([(x1 + x2) * WIDTH, (y1 + y2) * HEIGHT]) / 2
        mean = results['img'][..., :2].mean((0, 1))
        np.testing.assert_allclose(mean, middle, atol=1)
        centres.append(tuple(middle))
    assert len(set(centres)) == 20


def test_crops_for_ever():
    """MMCV's cache of random parameters wraps its method once more at every use."""
    crop = TRANSFORMS.build(view(2, 0.1, 0.9)[0])
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    boxes = {tuple(crop(sample(image))['view_box']) for _ in range(1500)}
    assert len(boxes) > 1


def test_patches_are_where_the_field_is_asked():
    """Boxes, flips and the centres of patches belong together: the mean over a patch
    of what pixels say is where :func:`patch_centres` has it."""
    results = multi_crop()(sample())
    boxes = torch.tensor(results['view_boxes']).double()
    flipped = torch.tensor(results['view_flipped'])
    assert 0 < flipped.sum() < 5
    for index, pixels in enumerate(results['img']):
        grid = len(pixels) // 8
        centres = patch_centres(boxes[[index]], flipped[[index]], (grid, grid))[0]
        patches = pixels[..., :2].reshape(grid, 8, grid, 8, 2).mean((1, 3))
        expected = centres.numpy() * (WIDTH, HEIGHT)
        # Interpolation is linear, but for a pixel at the border.
        tolerance = 1.5 / len(pixels) * max(WIDTH, HEIGHT) / 8
        np.testing.assert_allclose(patches.reshape(-1, 2), expected, atol=tolerance)


def test_views():
    image = coordinates()
    results = multi_crop()(sample(image))
    assert [x.shape[:2] for x in results['img']] == [(32, 32)] * 2 + [(16, 16)] * 3
    assert results['view_boxes'].shape == (5, 4)
    assert results['view_boxes'].dtype == np.float32
    assert results['view_flipped'].dtype == bool
    x1, y1, x2, y2 = results['view_boxes'].T
    assert (results['view_boxes'] >= 0).all()
    assert (results['view_boxes'] <= 1).all()
    areas = (x2 - x1) * (y2 - y1)
    assert (areas[:2] >= 0.28).all()
    assert (areas[2:] <= 0.32).all()
    np.testing.assert_array_equal(image, coordinates())  # nobody has changed it


def test_batches():
    """First views first, of each size; nothing is lost on the way."""
    pipeline = TRANSFORMS.build(
        dict(type='PackInputs', algorithm_keys=('view_boxes', 'view_flipped'))
    )
    crop = multi_crop()
    samples = [crop(sample()) for _ in range(3)]
    views = [
        [torch.tensor(x.copy()).permute(2, 0, 1) for x in s['img']] for s in samples
    ]
    boxes = [s['view_boxes'] for s in samples]
    packed = [pipeline(s) for s in samples]
    collate = FUNCTIONS.get('mmpospretrain.collate_views')
    (batch,) = DataLoader(packed, batch_size=3, collate_fn=collate)
    large, small = batch['inputs']
    assert large.shape == (6, 3, 32, 32)
    assert small.shape == (9, 3, 16, 16)
    for image in range(3):
        for number in range(5):
            group, index = (large, number) if number < 2 else (small, number - 2)
            assert torch.equal(group[3 * index + image], views[image][number])
        found = batch['data_samples'][image].view_boxes
        np.testing.assert_array_equal(found, boxes[image])


def test_views_of_one_size_stand_together():
    """Boxes are in the order of the views, batches by their size."""
    views = [torch.zeros(3, size, size) for size in (32, 16, 32)]
    with pytest.raises(ValueError, match=r'\(3, 32, 32\) come before and after others'):
        FUNCTIONS.get('mmpospretrain.collate_views')(
            [dict(inputs=views, data_samples=None)]
        )


def test_whole_image():
    crop = view(32, 1.0, 1.0, aspect_ratio_range=(WIDTH / HEIGHT,) * 2)
    results = multi_crop(crop, num_views=[2])(sample())
    np.testing.assert_array_equal(results['view_boxes'], [[0, 0, 1, 1]] * 2)


def test_views_of_nowhere():
    resize = [dict(type='Resize', scale=32)]
    with pytest.raises(ValueError, match='where its views come from'):
        multi_crop(resize, num_views=[1])(sample())


def test_flipped_upside_down():
    crop, _ = view(32, 0.3, 1.0)
    flip = dict(type='RandomFlip', prob=1.0, direction='vertical')
    with pytest.raises(ValueError, match=r"left to right alone, got .*'vertical'"):
        multi_crop([crop, flip], num_views=[1])(sample())
