"""PosField: where every view lies in the field, masked positions, and DINOv2 within."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from crops import (
    FIELD,
    LEARNED,
    OBLONG,
    SQUARE,
    build,
    make_crops,
    move_on,
    reference,
    spied,
    sum_losses,
)
from mmpretrain.structures import DataSample
from torch import Tensor

from mmpospretrain.models import FieldViT, PosField
from mmpospretrain.models.positions import draw_scales, move_views


def make(**kwargs) -> PosField:
    return build('PosField', **{'backbone': FIELD, **kwargs})


def boxes_of(samples: list[DataSample]) -> Tensor:
    """(B, all V, 4)."""
    return torch.from_numpy(np.stack([sample.view_boxes for sample in samples]))


def next_boxes(samples: list[DataSample], distribution: str) -> Tensor:
    """Where a step moves them to that begins with the same seed."""
    boxes = boxes_of(samples)
    scales = draw_scales(len(boxes), distribution)
    return boxes if scales is None else move_views(boxes, scales)


def in_the_field(
    samples: list[DataSample], boxes: Tensor, sizes: tuple, num_views: tuple = (2, 3)
) -> Callable[..., Tensor]:
    """The positions of `crops.reference`: the field at the centre of every patch."""

    def positions(backbone: FieldViT, size: int, view: int, image: int) -> Tensor:
        number = sum(num_views[:size]) + view
        x1, y1, x2, y2 = boxes[image, number].tolist()
        if samples[image].view_flipped[number]:
            x1, x2 = x2, x1
        rows, cols = (side // 16 for side in sizes[size])
        places = [
            (x1 + (x2 - x1) * (col + 0.5) / cols, y1 + (y2 - y1) * (row + 0.5) / rows)
            for row, col in np.ndindex(rows, cols)
        ]
        return torch.cat(
            [backbone.field.at(torch.tensor([xy]).double()) for xy in places]
        )

    return positions


@pytest.mark.parametrize(
    ('sizes', 'options'),
    [
        (SQUARE, {}),
        (OBLONG, dict(targets=dict(method='centering'), scales='uniform')),
        (OBLONG, dict(scales='constant', position_share=0.0)),
        (OBLONG, dict(content_share=0.0, position_share=1.0, position_shape='box')),
        (OBLONG, dict(backbone=dict(FIELD, field_mode='bilinear'))),
        (OBLONG, dict(backbone=LEARNED)),
    ],
)
def test_loss(monkeypatch, sizes, options):
    """All that it returns; with rows of Tab. 3 to 5."""
    model = make(img_size=sizes[0], **options).double()
    move_on(model)
    inputs, samples = make_crops(sizes=sizes)
    inputs = [views.double() for views in inputs]
    torch.manual_seed(3)
    with spied(monkeypatch, model) as (masks, _):
        losses = model(inputs, samples, mode='loss')
    torch.manual_seed(3)
    boxes = next_boxes(samples, options.get('scales', 'beta'))
    positions = in_the_field(samples, boxes, sizes)
    if options.get('backbone') == LEARNED:

        def positions(backbone, size, view, image):
            return backbone.patch_positions(tuple(x // 16 for x in sizes[size]))[0]

    expected = reference(model, inputs, 3, *masks, positions)
    assert losses.keys() == expected.keys()
    assert ('loss_position' in losses) == (options.get('position_share') != 0)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize('scales', ['beta', 'uniform', 'constant'])
def test_positions_of_every_view(monkeypatch, scales):
    """Global and local, of student and teacher, mirrored and not."""
    model = make(scales=scales, mask_ratio=(0.0, 0.0)).double()
    move_on(model)
    inputs, samples = make_crops()
    inputs = [views.double() for views in inputs]
    assert 0 < sum(sample.view_flipped.sum() for sample in samples) < 15
    torch.manual_seed(3)
    with spied(monkeypatch, model) as (_, calls):
        model(inputs, samples, mode='loss')
    torch.manual_seed(3)
    expected = in_the_field(samples, next_boxes(samples, scales), OBLONG)
    assert len(calls) == 3
    for teacher, tokens in calls:
        backbone = model.target_encoder if teacher else model.backbone
        size = int(tokens.shape[1] == 6)
        found = tokens - backbone.patchify(inputs[size])[0]
        wanted = [
            expected(backbone, size, view, image)
            for view, image in product(range(2 + size), range(3))
        ]
        torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-5, atol=1e-5)


def test_views_of_an_image_move_together():
    """Anew in every step, and every image by itself; not at all if `constant`."""
    inputs, samples = make_crops(num_images=4)
    for sample in samples[1:]:
        sample.set_data(samples[0].to_dict())
    before = boxes_of(samples)
    model = make()

    def located() -> Tensor:
        boxes, _ = model.move(inputs, samples)
        assert [len(x) for x in boxes] == [len(views) for views in inputs]
        boxes = [x.unflatten(0, (-1, 4)) for x in boxes]
        return torch.cat(boxes).transpose(0, 1)  # (B, all V, 4)

    one, other = located(), located()
    for moved in (one, other):
        side = (moved[..., 2] - moved[..., 0]) / (before[..., 2] - before[..., 0])
        torch.testing.assert_close(side, side[:, :1].expand_as(side))
        assert len(set(side[:, 0].tolist())) == 4
    assert not torch.equal(one, other)
    model.scales = 'constant'
    assert torch.equal(located(), before)
    for place, grid_size, *views in zip(
        model.locate(inputs, samples),
        ((6, 4), (3, 2)),
        *model.move(inputs, samples),
        strict=True,
    ):
        expected = model.backbone.field.places(*views, grid_size)
        torch.testing.assert_close(tuple(place), tuple(expected))


@pytest.mark.parametrize('field_mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('size', [*OBLONG, (160, 224)])
def test_whole_images(size, field_mode):
    """Views that show all of an image are what the backbone makes of images."""
    model = make(backbone=dict(FIELD, field_mode=field_mode))
    move_on(model)
    images = torch.randn(2, 3, *size)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, -1)
    place = model.backbone.field.places(
        whole, torch.zeros(2, dtype=torch.bool), tuple(side // 16 for side in size)
    )
    (expected,) = model.backbone(images)
    found = model.encode(model.backbone, images, place)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_mirrored_views():
    """Pixels and positions go together: [CLS] cannot tell, and patches are mirrored."""
    model = make().double()
    move_on(model)
    colours = torch.randn(2, 3, 6, 4).double()
    plain, mirrored = (
        x.repeat_interleave(16, 2).repeat_interleave(16, 3)
        for x in (colours, colours.flip(3))
    )
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.9], [0.0, 0.3, 0.7, 0.6]])
    flipped = torch.tensor([False, False])

    def encode(images: Tensor, flipped: Tensor) -> Tensor:
        place = model.backbone.field.places(boxes, flipped, (6, 4))
        return model.encode(model.backbone, images, place)

    one, other = encode(plain, flipped), encode(mirrored, ~flipped)
    torch.testing.assert_close(other[:, 0], one[:, 0], rtol=1e-5, atol=1e-5)
    patches = one[:, 1:].unflatten(1, (6, 4)).flip(2).flatten(1, 2)
    torch.testing.assert_close(other[:, 1:], patches, rtol=1e-5, atol=1e-5)
    wrong = encode(mirrored, flipped)
    assert (wrong[:, 0] - one[:, 0]).abs().max() > 1e-2


def test_masked_in_content_or_in_position(monkeypatch):
    """Patch by patch: the other of the two stays as it was, as does [CLS]."""
    model = make(scales='constant')
    move_on(model)
    inputs, samples = make_crops()
    first = []
    model.backbone.layers[0].register_forward_pre_hook(
        lambda _, args: first.append(args[0].detach())
    )
    with spied(monkeypatch, model) as (masks, _):
        model(inputs, samples, mode='loss')
    (masks,) = masks
    assert all(mask.any() for mask in masks.values())
    patches, _ = model.backbone.patchify(inputs[0])
    places = model.locate(inputs, samples)[0]
    positions = model.backbone.field.at_places(places)
    for view, patch in np.ndindex(6, 24):
        content, position = patches[view, patch], positions[view, patch]
        if masks['content'][view, patch]:
            content = model.mask_token[0, 0]
        if masks['position'][view, patch]:
            position = model.pos_mask_token[0, 0]
        torch.testing.assert_close(first[0][view, 1 + patch], content + position)
    cls = model.backbone.cls_token + model.backbone.pos_embed
    for tokens in first:
        assert torch.equal(tokens[:, :1], cls.expand(len(tokens), -1, -1))


@pytest.mark.parametrize('mask_ratio', [(0.1, 0.5), (0.0, 0.0)])
def test_gradient_reaches_the_student_but_never_the_teacher(mask_ratio):
    """The field and both mask tokens too, with no patch masked too (DDP)."""
    model = make(mask_ratio=mask_ratio).train()
    sum_losses(model(*make_crops(), mode='loss')).backward()
    of_masked = ('heads.content', 'heads.position', 'mask_token', 'pos_mask_token')
    for name, weight in model.named_parameters():
        trained = not name.startswith('target_')
        assert (weight.grad is not None) == trained == weight.requires_grad, name
        if trained and (mask_ratio[1] or not name.startswith(of_masked)):
            assert weight.grad.abs().sum() > 0, name


def test_the_teacher_has_a_field_and_heads_of_its_own(monkeypatch):
    """The same at first; it sees all positions, even where the student sees none."""
    model = make(content_share=0.0, position_share=1.0, scales='constant')
    for teacher, student in (
        (model.target_encoder, model.backbone),
        (model.target_heads, model.heads),
    ):
        weights = teacher.state_dict()
        for name, weight in student.state_dict().items():
            assert torch.equal(weights.pop(name), weight), name
        assert not weights
    assert model.target_heads.keys() == {'cls', 'content', 'position'}
    assert model.target_encoder.field.samples is not model.backbone.field.samples
    assert model.pos_mask_token.std().item() == pytest.approx(0.02, rel=0.5)

    move_on(model)
    inputs, samples = make_crops()
    heard = []
    model.target_heads['position'].mlp.register_forward_pre_hook(
        lambda _, args: heard.append(args[0])
    )
    with spied(monkeypatch, model) as (masks, _):
        model.train()(inputs, samples, mode='loss')
    places = model.locate(inputs, samples)[0]
    unmasked = model.encode(model.target_encoder, inputs[0], places)[:, 1:]
    torch.testing.assert_close(heard[0], unmasked[masks[0]['position']])


def step_by_step(model: PosField) -> tuple:
    """Losses, gradients and weights of a few steps, the teacher a step behind."""
    torch.manual_seed(0)
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    found = [{name: x.clone() for name, x in model.state_dict().items()}]
    for step in range(3):
        before = {name: x.clone() for name, x in model.backbone.state_dict().items()}
        losses = model(*make_crops(num_images=2 + step), mode='loss')
        optimizer.zero_grad()
        sum_losses(losses).backward()
        found += [losses, {n: p.grad for n, p in model.named_parameters()}]
        optimizer.step()
        model.target_encoder.load_state_dict(before)
        for targets in model.targets.values():
            targets.follow()
        found.append({name: x.clone() for name, x in model.state_dict().items()})
    return found, torch.get_rng_state()


@pytest.mark.parametrize('method', ['sinkhorn', 'centering'])
def test_without_field_and_masked_positions_it_is_dinov2(method):
    """Bit by bit: losses, gradients, weights, centers, and the draws that follow."""
    options = dict(
        backbone=dict(LEARNED, drop_path_rate=0.1), targets=dict(method=method)
    )
    runs = [
        step_by_step(model)
        for model in (
            build('DINOv2', **options),
            build('PosField', position_share=0.0, **options),
        )
    ]
    (ours, our_state), (theirs, their_state) = runs
    assert len(ours) == len(theirs) == 10
    for a, b in zip(ours, theirs, strict=True):
        assert [*a] == [*b]
        for name, value in a.items():
            assert value is b[name] is None or torch.equal(value, b[name]), name
    assert torch.equal(our_state, their_state)
    assert not torch.equal(ours[0]['mask_token'], ours[-1]['mask_token'])


def test_field_vit():
    """The field and the position of [CLS] are all that it has besides a ViT."""
    model = make(backbone=dict(FIELD, field_size=9)).backbone
    weights = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert weights.pop('field.samples') == (9, 9, 32)
    assert weights.pop('pos_embed') == (1, 1, 32)
    plain = make(backbone=LEARNED).backbone
    theirs = {name: tuple(p.shape) for name, p in plain.named_parameters()}
    assert theirs.pop('pos_embed') == (1, 25, 32)
    assert weights == theirs
    assert model.patch_positions().shape == (1, 24, 32)
    on_its_own = model.patch_positions((9, 9)).unflatten(1, (9, 9))[0]
    torch.testing.assert_close(on_its_own, model.field.samples)
    for weight in (model.field.samples, model.pos_embed):
        assert weight.std().item() == pytest.approx(0.02, rel=0.4)


def test_a_frozen_field_vit():
    """Its field and its position of [CLS] are embeddings, frozen with the first."""
    model = make(backbone=dict(FIELD, frozen_stages=1)).backbone
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not trained & {'pos_embed', 'field.samples', 'cls_token'}
    assert 'layers.1.ln1.weight' in trained


@pytest.mark.parametrize('missing', ['view_boxes', 'view_flipped'])
def test_crops_that_are_not_known(missing):
    inputs, samples = make_crops()
    for sample in samples:
        sample.pop(missing)
    with pytest.raises(ValueError, match=r'MultiCrop and PackInputs\(algorithm_keys='):
        make()(inputs, samples, mode='loss')
    make(backbone=LEARNED)(inputs, samples, mode='loss')  # needs neither


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(position_share=0.6), r'0.5 \+ position_share 0.6 is over 1: no view'),
        (dict(position_share=-0.1), r'position_share must lie in \[0, 1\], got -0.1'),
        (dict(position_shape='row'), "position_shape must be one of .*, got 'row'"),
        (dict(scales='normal'), "distribution must be one of .*, got 'normal'"),
        (dict(backbone=dict(FIELD, field_size=0)), 'size must be at least 1, got 0'),
        (dict(backbone=dict(FIELD, field_mode='area')), "mode must be .*, got 'area'"),
        (
            dict(backbone=dict(FIELD, with_cls_token=False)),
            'PosField needs a backbone with with_cls_token=True',
        ),
    ],
)
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_other_views_than_expected():
    with pytest.raises(ValueError, match='num_global_views is 2'):
        make()(*make_crops(num_views=(1, 4)), mode='loss')


def test_compiled():
    """As ``compile=True`` does, but for the code that an inductor makes of it."""
    model = make(mask_ratio=(0.3, 0.3))
    inputs, samples = make_crops()
    results = []
    for forward in (model.forward, torch.compile(model.forward, backend='eager')):
        torch.manual_seed(0)
        with torch.autocast('cpu', torch.bfloat16):
            losses = forward(inputs, samples, mode='loss')
        model.zero_grad()
        sum_losses(losses).backward()
        grad = model.heads['position'].prototypes.weight.grad.clone()
        results.append({**losses, 'grad': grad})
    plain, compiled = results
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-2, atol=1e-4)
