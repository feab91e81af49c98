"""Frozen features, nearest neighbours and linear probes."""

import math
import os
import shutil

import numpy as np
import pytest
import torch
from mmpretrain.models import (
    MAEViT,
    ResNet,
    SelfSupDataPreprocessor,
    VisionTransformer,
)
from PIL import Image

from mmpospretrain.datasets import BrokenImagesError, ImageFolder
from mmpospretrain.evaluation import features as features_module
from mmpospretrain.evaluation.features import (
    FeatureCache,
    Features,
    extract_features,
    frozen_encoder,
    labelled_images,
    labels_of,
)
from mmpospretrain.evaluation.frozen import (
    Probe,
    check_neighbours,
    check_two_of_each,
    choose_labels,
    knn_accuracy,
    linear_probe,
)
from mmpospretrain.models import PositionViT

PIPELINE = [dict(type='PackInputs')]
ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


@pytest.fixture(params=[True, False], ids=['cls', 'no cls'])
def backbone(request):
    torch.manual_seed(0)
    vit = PositionViT(
        arch=ARCH,
        img_size=(32, 48),
        with_cls_token=request.param,
    )
    vit.init_weights()
    torch.nn.init.normal_(vit.ln1.weight)
    return vit.eval()


def test_pooled_features(backbone):
    """By hooks on the layers, in NumPy."""
    images = torch.randn(2, 3, 32, 48)
    outputs = []
    for layer in backbone.layers:
        layer.register_forward_hook(lambda module, args, out: outputs.append(out))
    features = backbone.pooled(images, [0, 2])
    assert [x.shape for x in features] == [(2, 16)] * 2
    norm = backbone.ln1
    weight, bias = (x.detach().numpy() for x in (norm.weight, norm.bias))
    for pooled, layer in zip(features, [0, 2], strict=True):
        x = outputs[layer].detach().numpy().astype(np.float64)
        x = x[:, backbone.num_extra_tokens :]
        assert x.shape[1] == 6
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        x = (x - mean) / np.sqrt(var + norm.eps) * weight + bias
        np.testing.assert_allclose(pooled.detach(), x.mean(1), atol=1e-5)


def test_pooled_is_an_output_type_too(backbone):
    """What the SGD probe of configs/transfer sees is what the tool extracts."""
    probe = PositionViT(
        arch=ARCH,
        img_size=(32, 48),
        with_cls_token=backbone.cls_token is not None,
        out_type='pooled',
        out_indices=[1, 2],
    ).eval()
    probe.load_state_dict(backbone.state_dict())
    images = torch.randn(2, 3, 32, 48)
    for ours, theirs in zip(
        probe(images), backbone.pooled(images, [1, 2]), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_frozen_encoder_of_mmpretrain(backbone):
    """MAE's ViT, for example; what is no plain ViT is refused."""
    assert frozen_encoder(backbone) is backbone
    options = dict(arch={**ARCH, 'num_layers': 2}, img_size=32, patch_size=16)
    mae = MAEViT(**options)
    mae.init_weights()
    mae.eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = mae(images, mask=None)[-1][:, 1:]
    (pooled,) = frozen_encoder(mae).eval().pooled(images, [1])
    torch.testing.assert_close(pooled, tokens.mean(1))
    with pytest.raises(ValueError, match='those of a ViT, this is a ResNet'):
        frozen_encoder(ResNet(18))
    scaled = VisionTransformer(**options, layer_scale_init_value=0.1)
    with pytest.raises(ValueError, match=r'(?s)no plain ViT.*layers.0.attn.gamma1'):
        frozen_encoder(scaled)


@pytest.fixture
def folder(tmp_path):
    """Three dark images of class ``a`` and two bright ones of class ``b``."""
    for name, count, level in (('a', 3, 40), ('b', 2, 200)):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for index in range(count):
            picture = np.full((32, 48, 3), level + 5 * index, np.uint8)
            Image.fromarray(picture).save(tmp_path / 'images' / name / f'{index}.png')
    return tmp_path / 'images'


def test_extract_features_keeps_order_and_mode(backbone, folder):
    dataset = labelled_images(folder, PIPELINE)
    preprocessor = SelfSupDataPreprocessor(mean=[128.0] * 3, std=[64.0] * 3)
    backbone.train()
    features = extract_features(
        backbone, preprocessor, dataset, [2], batch_size=2, num_workers=0
    )
    assert backbone.training
    assert features.values.shape == (5, 1, 16)
    assert features.labels.tolist() == [0, 0, 0, 1, 1]
    image = (torch.full((1, 3, 32, 48), 205.0) - 128) / 64
    (expected,) = backbone.eval().pooled(image, [2])
    np.testing.assert_allclose(features.values[4, 0], expected.detach()[0], atol=1e-5)


@pytest.mark.parametrize('workers', [0, 1])
def test_broken_images_are_left_out(backbone, folder, workers):
    """Its neighbour does not count twice."""
    preprocessor = SelfSupDataPreprocessor(mean=[128.0] * 3, std=[64.0] * 3)

    def extract(share):
        dataset = labelled_images(folder, PIPELINE, max_broken_share=share)
        options = dict(batch_size=2, num_workers=workers)
        return extract_features(backbone, preprocessor, dataset, [2], **options)

    whole = extract(0)
    for broken, kept in (('a/1.png', [0, 2, 3, 4]), ('b/1.png', [0, 2, 3])):
        (folder / broken).write_bytes(b'no image')
        features = extract(1)
        assert features.labels.tolist() == whole.labels[kept].tolist()
        np.testing.assert_allclose(features.values, whole.values[kept], atol=1e-6)
    with pytest.raises(BrokenImagesError, match='2 of 5 images'):
        extract(0.3)


def test_labelled_images_from_a_list(folder, tmp_path):
    lists = tmp_path / 'lists'
    lists.mkdir()
    for text in ('images/a/0.png 1\nimages/b/1.png 0\n',):
        (lists / 'train.txt').write_text(text)
    dataset = labelled_images(lists / 'train.txt', PIPELINE)
    assert [dataset.get_data_info(i)['gt_label'] for i in range(2)] == [1, 0]
    assert dataset[1]['inputs'][0, 0, 0] == 205
    # Paths from the folder of the file itself work as well.
    (folder / 'val.txt').write_text('a/0.png 0\n')
    assert len(labelled_images(folder / 'val.txt', PIPELINE)) == 1


def test_labelled_images_errors(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder or file '.*/nowhere'"):
        labelled_images(tmp_path / 'nowhere', PIPELINE)
    with pytest.raises(FileNotFoundError, match=r'a has no folders: .* for each class'):
        labelled_images(folder / 'a', PIPELINE)
    (tmp_path / 'list.txt').write_text('x/0.png 0\n')
    with pytest.raises(FileNotFoundError, match=r"no image 'x/0.png' in .*path label"):
        labelled_images(tmp_path / 'list.txt', PIPELINE)
    train = labelled_images(folder, PIPELINE)
    other = tmp_path / 'other'
    folder.rename(other)
    (other / 'b').rename(other / 'c')
    with pytest.raises(ValueError, match=r'other classes .* only one has b, c'):
        labelled_images(other, PIPELINE, like=train)
    (tmp_path / 'list.txt').write_text('other/a/0.png 7\n')
    with pytest.raises(ValueError, match=r'labels that no training image has: \[7\]'):
        labelled_images(tmp_path / 'list.txt', PIPELINE, like=train)


def test_labels_that_are_none(folder, tmp_path):
    (tmp_path / 'list.txt').write_text('images/a/0.png 0\nimages/a/1.png -1\n')
    message = r'every label in .*list\.txt must be at least 0, got -1'
    with pytest.raises(ValueError, match=message):
        labelled_images(tmp_path / 'list.txt', PIPELINE)
    unlabelled = ImageFolder(data_root=str(folder))
    message = r'a/0\.png has no label: give the data set, ImageFolder, with_label=True'
    with pytest.raises(ValueError, match=message):
        labels_of(unlabelled)


def test_a_list_to_train_on_and_folders_to_validate_with(folder, tmp_path):
    (tmp_path / 'list.txt').write_text('images/a/0.png 0\nimages/b/0.png 1\n')
    train = labelled_images(tmp_path / 'list.txt', PIPELINE)
    assert labels_of(train) == [0, 1]
    val = labelled_images(folder, PIPELINE, like=train)
    assert labels_of(val) == [0, 0, 0, 1, 1]


def test_cache_knows_what_features_depend_on(folder, tmp_path):
    facts = dict(weights='abc')
    cache = FeatureCache(tmp_path / 'cache', facts)
    dataset = labelled_images(folder, PIPELINE)
    path = cache.path(dataset, [2])
    assert cache.load(path) is None
    features = Features(np.ones((5, 1, 4), np.float32), np.arange(5))
    cache.save(path, features)
    again = cache.load(cache.path(labelled_images(folder, PIPELINE), [2]))
    for ours, theirs in zip(again, features, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [*path.parent.iterdir()] == [path]

    others = [
        cache.path(dataset, [1, 2]),
        cache.path(dataset.get_subset([0, 1]), [2]),
        FeatureCache(tmp_path / 'cache', dict(weights='abd')).path(dataset, [2]),
    ]
    os.utime(folder / 'a/0.png', (0, 0))
    others.append(cache.path(dataset, [2]))
    assert len({path, *others}) == 5


def test_cache_of_a_missing_file(folder, tmp_path):
    """It is left out as a broken one is, until it is there."""
    (tmp_path / 'list.txt').write_text('images/a/0.png 0\nimages/a/9.png 0\n')
    dataset = labelled_images(tmp_path / 'list.txt', PIPELINE)
    cache = FeatureCache(tmp_path / 'cache', {})
    path = cache.path(dataset, [2])
    shutil.copy(folder / 'a/0.png', folder / 'a/9.png')
    assert cache.path(dataset, [2]) != path


def test_processes_write_different_files(tmp_path, monkeypatch):
    names = []
    save = features_module.save_safetensors
    monkeypatch.setattr(
        features_module,
        'save_safetensors',
        lambda values, path: (names.append(path), save(values, path)),
    )
    features = Features(np.ones((2, 1, 4), np.float32), np.arange(2))
    for _ in range(2):
        FeatureCache(tmp_path, {}).save(tmp_path / 'a.safetensors', features)
    assert len({*names, tmp_path / 'a.safetensors'}) == 3
    assert [*tmp_path.iterdir()] == [tmp_path / 'a.safetensors']


def gaussians(count, shift, seed):
    """Four classes around four points."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    values = rng.normal(size=(count, 1, 8)).astype(np.float32)
    values[np.arange(count), 0, labels] += shift
    return Features(values, labels)


def test_knn_by_hand():
    """Weights by exp(cos / τ), neighbours by cosine: length says nothing."""
    angles = np.radians([10.0, 20, 60, 70, 80])
    train = np.stack([np.cos(angles), np.sin(angles)], 1) * [[1], [9], [1], [5], [1]]
    labels = np.array([0, 1, 1, 2, 2])
    queries = np.radians([0.0, 15, 45, 90])
    val = np.stack([np.cos(queries), np.sin(queries)], 1) * 3
    expected = []
    for query in queries:
        cosines = np.cos(angles - query)
        nearest = np.argsort(-cosines)[:3]
        votes = np.zeros(3)
        for index in nearest:
            votes[labels[index]] += np.exp(cosines[index] / 0.07)
        expected.append(votes.argmax())
    right = Features(val[:, None].astype(np.float32), np.array(expected))
    train = Features(train[:, None].astype(np.float32), labels)
    assert len(set(expected)) > 1
    assert knn_accuracy(train, right, k=3) == 100
    wrong = right._replace(labels=(right.labels + 1) % 3)
    assert knn_accuracy(train, wrong, k=3) == 0
    for k, message in ((6, '6 neighbours among 5 training images'), (0, 'k must be')):
        with pytest.raises(ValueError, match=message):
            knn_accuracy(train, right, k=k)
        with pytest.raises(ValueError, match=message):
            check_neighbours('k', k, 5)


def test_linear_probe_separates_what_is_separable():
    probe = linear_probe(gaussians(200, 12, 0), gaussians(100, 12, 1))
    assert probe.accuracy == 100
    blind = linear_probe(gaussians(200, 0, 0), gaussians(400, 0, 1))
    assert abs(blind.accuracy - 25) < 4 * 100 * math.sqrt(0.25 * 0.75 / 400)


def test_linear_probe_takes_units_as_equal():
    """Standardised by hand beforehand, or in units of any size: the same answers."""
    train, val = gaussians(60, 1, 0), gaussians(400, 1, 1)
    mean, std = train.values.mean(0), train.values.std(0)
    units = np.logspace(-4, 4, 8, dtype=np.float32)
    probes = {
        linear_probe(*(f._replace(values=change(f.values)) for f in (train, val)))
        for change in (
            lambda values: values,
            lambda values: (values - mean) / std,
            lambda values: values * units,
        )
    }
    assert len(probes) == 1
    assert probes.pop().accuracy > 35


def test_edge_of_the_grid():
    """Where nothing is to be learned, or everything at once, it is at an end."""
    assert Probe(50, 10.0).at_edge
    assert Probe(50, 1e-5).at_edge
    assert not Probe(50, 0.1).at_edge
    assert linear_probe(gaussians(60, 12, 0), gaussians(40, 12, 1)).at_edge


def test_linear_probe_never_chooses_by_the_validation_set():
    train, val = gaussians(60, 2, 0), gaussians(40, 2, 1)
    shuffled = val._replace(labels=np.roll(val.labels, 1))
    assert linear_probe(train, val).strength == linear_probe(train, shuffled).strength


@pytest.mark.parametrize('each', [2, 3])
def test_linear_probe_of_few_labels(each):
    probe = linear_probe(gaussians(4 * each, 12, 0), gaussians(100, 12, 1))
    assert probe.accuracy > 90


def test_linear_probe_of_a_single_image():
    rare = gaussians(16, 2, 0)._replace(labels=np.array([0, 1, 2] * 5 + [3]))
    with pytest.raises(ValueError, match='class 3 has a single training image'):
        linear_probe(rare, rare)
    with pytest.raises(ValueError, match='class 3 has a single training image'):
        check_two_of_each(rare.labels)


@pytest.mark.parametrize(
    ('wanted', 'count'), [('1%', 10), ('100%', 1000), ('17', 17), ('999', 999)]
)
def test_labels_of_all_classes_alike(wanted, count):
    labels = np.repeat(np.arange(4), [100, 200, 300, 400])
    chosen = choose_labels(labels, wanted)
    assert len({*chosen}) == len(chosen) == count
    assert (np.diff(chosen) > 0).all()
    shares = np.bincount(labels[chosen], minlength=4)
    np.testing.assert_allclose(shares, count * np.array([0.1, 0.2, 0.3, 0.4]), atol=1)
    np.testing.assert_array_equal(choose_labels(labels, wanted), chosen)
    assert count == 1000 or not np.array_equal(choose_labels(labels, wanted, 1), chosen)


@pytest.mark.parametrize('wanted', ['1001', '3', '0.1%', '200%'])
def test_labels_that_there_are_not(wanted):
    with pytest.raises(ValueError, match=r'at least one for each of the 4 classes'):
        choose_labels(np.arange(1000) % 4, wanted)


@pytest.mark.parametrize('wanted', ['many', '%', '', 'inf%', 'nan%', 'inf'])
def test_labels_that_are_no_number(wanted):
    with pytest.raises(ValueError, match="a percentage such as '1%', got"):
        choose_labels(np.arange(8) % 2, wanted)
