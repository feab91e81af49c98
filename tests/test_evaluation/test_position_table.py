"""The 16 cases of Tabs. S3-S5, against counts made one image at a time."""

import numpy as np
import pytest
import torch

from mmpospretrain.evaluation.position_table import (
    count_correct,
    position_table,
    reconstruct_cases,
)
from mmpospretrain.models import DropPos
from mmpospretrain.models.selfsup.position_predictor import Reconstruction

CASES = [(0.0, 0.5), (0.5, 0.25)]


class EvenOnly(DropPos):
    """Finds the place of even patches and takes odd ones for the next patch."""

    def encode_visible(self, patches, masks):
        assert not any(module.training for module in self.modules())
        self.seen.append(masks)
        return masks.visible

    def head(self, ids):
        return torch.nn.functional.one_hot(ids + ids % 2, 16).float()


def build(kind=EvenOnly):
    model = kind(
        backbone=dict(
            type='mmpospretrain.PositionViT',
            arch=dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16),
            img_size=(48, 80),
            patch_size=16,
        ),
        head=dict(type='mmpospretrain.PositionHead', depth=0),
        data_preprocessor=dict(type='mmpretrain.SelfSupDataPreprocessor'),
    )
    if kind is EvenOnly:
        model.__dict__['head'] = model.head
        model.seen = []
    return model


def batches(sizes):
    images = torch.randint(0, 256, (sum(sizes), 3, 48, 80), dtype=torch.uint8)
    return [dict(inputs=chunk, data_samples=None) for chunk in images.split(sizes)]


def test_counts_dropped_patches_of_all_images():
    model = build()
    table = position_table(model, batches([3, 2]), (0.0, 0.5), (0.25, 0.5, 1.0))
    assert table.accuracy.shape == (2, 3)
    assert table.num_images == 5
    assert table.chance == pytest.approx(100 / 15)
    for case in range(6):
        right = total = 0
        for masks in model.seen[case::6]:  # one entry per batch and case
            is_dropped = masks.dropped.flatten().tolist()
            for position, patch in enumerate(masks.visible.flatten().tolist()):
                total += is_dropped[position]
                right += is_dropped[position] and patch % 2 == 0
        visible = (15, 7)[case // 3]
        anchors = (int(visible * 0.75), int(visible * 0.5), 0)[case % 3]
        assert total == 5 * (visible - anchors)
        assert table.accuracy.flat[case] == pytest.approx(100 * right / total)


def test_count_correct():
    yes, no = True, False
    result = Reconstruction(
        ids=torch.tensor([[4, 0, 2, 5, 1], [3, 1, 0, 2, 4]]),
        dropped=torch.tensor([[yes, yes, yes, no, yes], [yes] * 5]),
        context=torch.tensor([[yes, yes, no, yes, no], [yes] * 3 + [no] * 2]),
        predicted=torch.tensor([[4, 3, 2, 5, 2], [3, 1, 1, 2, 4]]),
    )
    assert count_correct(result).tolist() == [[6, 9], [3, 5], [3, 4]]
    second = Reconstruction(*(field[1] for field in result))
    assert count_correct(second).tolist() == [[4, 5], [2, 3], [2, 2]]


def test_averages():
    table = position_table(build(), batches([2]), (0.0, 0.5), (0.5, 1.0))
    rows = [(row[0] + row[1]) / 2 for row in table.accuracy.tolist()]
    np.testing.assert_allclose(table.row_averages, rows)
    assert table.average == pytest.approx(sum(rows) / 2)
    assert table.to_dict()['accuracy'] == table.accuracy.tolist()


def test_batch_size_and_other_cases_change_nothing():
    loader = batches([5])
    whole = position_table(build(), loader, (0.0, 0.5), (0.25, 0.5)).accuracy
    inputs = loader[0]['inputs'].split([1, 3, 1])
    loader = [dict(inputs=chunk, data_samples=None) for chunk in inputs]
    (part,) = position_table(build(), loader, (0.5,), (0.5, 0.25)).accuracy
    assert part.tolist() == whole[1, ::-1].tolist()
    other = position_table(build(), loader, (0.0, 0.5), (0.25, 0.5), seed=1)
    assert other.accuracy.tolist() != whole.tolist()


def masks_of(sizes, cases, seed=0):
    """(images, cases), the masks that every image gets."""
    model = build()
    generators = [torch.Generator().manual_seed(seed) for _ in cases]
    inputs = [batch['inputs'].float() for batch in batches(sizes)]
    results = [reconstruct_cases(model, x, cases, generators) for x in inputs]
    return [
        torch.cat([result[case].ids * 2 + result[case].dropped for result in results])
        for case in range(len(cases))
    ]


def test_masks_follow_from_seed_and_image_alone():
    one, other = masks_of([6], CASES), masks_of([1, 3, 2], CASES)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    alone = masks_of([6], CASES[1:])
    assert torch.equal(alone[0], one[1])
    assert not torch.equal(masks_of([6], CASES, seed=1)[0], one[0])
    assert not torch.equal(one[0][0], one[0][1])  # images differ


def test_global_randomness_and_modes_stay():
    model = build(DropPos)
    model.backbone.layers.eval()
    before = {name: m.training for name, m in model.named_modules()}
    torch.manual_seed(0)
    loader = batches([2])
    state = torch.get_rng_state()
    position_table(model, loader, (0.5,), (0.5,))
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: m.training for name, m in model.named_modules()} == before
    assert all(p.grad is None for p in model.parameters())


def test_agrees_with_the_model_itself():
    """A real model, and masks of one image drawn by hand."""
    torch.manual_seed(0)
    model = build(DropPos).eval()
    inputs = torch.randn(1, 3, 48, 80)
    (ours,) = reconstruct_cases(
        model, inputs, [(0.25, 0.5)], [torch.Generator().manual_seed(3)]
    )
    theirs = model.reconstruct(
        inputs, 0.25, 0.5, generator=torch.Generator().manual_seed(3)
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_no_images():
    with pytest.raises(ValueError, match='no image'):
        position_table(build(), [])


def test_other_models():
    with pytest.raises(ValueError, match='not by a Linear'):
        reconstruct_cases(torch.nn.Linear(1, 1), torch.zeros(1, 1), [], [])
