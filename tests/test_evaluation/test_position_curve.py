"""Accuracy by η, against counts made one patch at a time."""

import json

import pytest
import torch

from mmpospretrain.evaluation.position_curve import position_curve
from mmpospretrain.models import MP3


class EvenOnly(MP3):
    """Finds the place of even patches and takes odd ones for the next patch."""

    def locate(self, patches, split):
        assert not any(module.training for module in self.modules())
        self.seen.append(split)
        return torch.nn.functional.one_hot(split.ids + split.ids % 2, 16).float()


def build(kind=EvenOnly):
    model = kind(
        backbone=dict(
            type='mmpospretrain.PositionViT',
            arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
            img_size=(48, 80),
            patch_size=16,
            positions='none',
        ),
        head=dict(type='mmpospretrain.PositionHead', depth=0),
        data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor'),
    )
    model.seen = []
    return model


def batches(sizes):
    images = torch.randint(0, 256, (sum(sizes), 3, 48, 80), dtype=torch.uint8)
    return [dict(inputs=chunk, data_samples=None) for chunk in images.split(sizes)]


def test_counts_context_and_masked_patches_of_all_images():
    model, ratios = build(), (0.0, 0.5, 0.9)
    curve = position_curve(model, batches([3, 2]), ratios)
    assert curve.num_images == 5
    assert curve.chance == pytest.approx(100 / 15)
    for case, ratio in enumerate(ratios):
        right = dict(context=0, masked=0)
        total = dict(context=0, masked=0)
        for split in model.seen[case::3]:  # one entry per batch and η
            for group in right:
                for image in getattr(split, group).tolist():
                    for patch in image:
                        total[group] += 1
                        right[group] += patch % 2 == 0
        context = (15, 7, 1)[case]
        assert total == dict(context=5 * context, masked=5 * (15 - context))
        expected = 100 * (right['context'] + right['masked']) / 75
        assert curve.accuracy['all'][ratio] == pytest.approx(expected)
        for group, count in total.items():
            if count:
                expected = 100 * right[group] / count
                assert curve.accuracy[group][ratio] == pytest.approx(expected)


def test_nothing_masked_at_zero():
    curve = position_curve(build(), batches([2]), (0.0, 0.5))
    assert [*curve.accuracy['masked']] == [0.5]
    report = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert report['accuracy']['masked'] == [None, curve.accuracy['masked'][0.5]]
    assert report['accuracy']['all'] == [pytest.approx(100 * 8 / 15)] * 2
    assert report['mask_ratios'] == [0, 0.5]


def test_batch_size_and_other_ratios_change_nothing():
    torch.manual_seed(0)
    model = build(MP3)
    (whole,) = batches([5])
    expected = position_curve(model, [whole], (0.0, 0.3, 0.6)).accuracy
    inputs = whole['inputs'].split([1, 3, 1])
    loader = [dict(inputs=chunk, data_samples=None) for chunk in inputs]
    actual = position_curve(model, loader, (0.6, 0.3)).accuracy
    for group, values in actual.items():
        assert values == {ratio: expected[group][ratio] for ratio in (0.6, 0.3)}


def test_contexts_are_nested_and_follow_from_the_seed():
    def contexts(seed):
        model = build()
        position_curve(model, batches([3]), (0.2, 0.6), seed)
        return [split.context.tolist() for split in model.seen]

    large, small = contexts(seed=0)
    assert all(set(b) < set(a) for a, b in zip(large, small, strict=True))
    assert contexts(seed=0) == [large, small]
    assert contexts(seed=1) != [large, small]


def test_global_randomness_and_modes_stay():
    model = build(MP3)
    model.backbone.layers.eval()
    before = {name: m.training for name, m in model.named_modules()}
    loader = batches([2])
    state = torch.get_rng_state()
    position_curve(model, loader, (0.5,))
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: m.training for name, m in model.named_modules()} == before


def test_wrong_ratio():
    with pytest.raises(ValueError, match=r'must lie in \[0, 1\], got 1.5'):
        position_curve(build(), batches([1]), (1.5,))
