"""What the tests of DINOv2 and PosField share: small models, crops, a reference.

Letters: B images, V views of one size, N patches of a view, D embedding width, K
prototypes.
"""

from collections.abc import Callable
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from scipy.special import ndtr, rel_entr, xlogy
from torch import Tensor, nn

from mmpospretrain.models import DINOv2, PositionViT
from mmpospretrain.models.losses.distillation import TeacherTargets

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
LEARNED = dict(type='mmpospretrain.PositionViT', arch=ARCH, positions='learned')
FIELD = dict(type='mmpospretrain.FieldViT', arch=ARCH, field_size=7)
HEAD = dict(
    type='mmpospretrain.PrototypeHead',
    num_prototypes=16,
    hidden_dims=24,
    bottleneck_dims=8,
)
SQUARE = ((96, 96), (48, 48))  # 6 x 6 and 3 x 3 patches
OBLONG = ((96, 64), (48, 32))  # 6 x 4 and 3 x 2


def build(
    kind: str, backbone: dict, img_size: tuple[int, int] = OBLONG[0], **kwargs
) -> DINOv2:
    torch.manual_seed(0)
    backbone = {'img_size': img_size, **backbone}
    cfg = dict(type=f'mmpospretrain.{kind}', backbone=backbone, head=HEAD)
    model = MODELS.build({**cfg, **kwargs})
    model.init_weights()
    return model


def move_on(model: DINOv2) -> None:
    """All weights anywhere, the student's elsewhere than the teacher's; centers too."""
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    for name, center in model.named_buffers():
        if name.endswith('center'):
            center += 0.2 * torch.randn_like(center)


def make_crops(
    num_images: int = 3,
    sizes: tuple[tuple[int, int], ...] = OBLONG,
    num_views: tuple[int, ...] = (2, 3),
) -> tuple[list[Tensor], list[DataSample]]:
    """Views of noise, first views first, and where they are from: anywhere."""
    generator = torch.Generator().manual_seed(2)
    inputs = [
        torch.randn(count * num_images, 3, *size, generator=generator)
        for count, size in zip(num_views, sizes, strict=True)
    ]
    total = sum(num_views)
    ends = torch.rand(num_images, total, 2, 2, generator=generator)
    boxes = torch.stack((ends.amin(2) * 0.8, 0.1 + ends.amax(2) * 0.9), dim=2)
    flipped = torch.rand(num_images, total, generator=generator) < 0.5
    samples = [DataSample() for _ in range(num_images)]
    for sample, box, flip in zip(samples, boxes.flatten(2), flipped, strict=True):
        sample.set_field(box.numpy(), 'view_boxes')
        sample.set_field(flip.numpy(), 'view_flipped')
    return inputs, samples


@contextmanager
def spied(monkeypatch, model: DINOv2):
    """Within, what the model draws and what its encoders are given.

    Yields:
        masks: Of every call of ``draw_masks``.
        tokens: Of every call of an encoder, ``(teacher, patches with positions)``.
    """
    masks, tokens = [], []
    draw, encode = model.draw_masks, PositionViT.encode

    def drawn(*args, **kwargs):
        masks.append(draw(*args, **kwargs))
        return masks[-1]

    def encoded(backbone, patches, *args, **kwargs):
        tokens.append((backbone is model.target_encoder, patches.detach()))
        return encode(backbone, patches, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(model, 'draw_masks', drawn)
        patch.setattr(PositionViT, 'encode', encoded)
        yield masks, tokens


def sum_losses(losses: dict[str, Tensor]) -> Tensor:
    """What training makes smaller; the rest is for the log."""
    return sum(value for name, value in losses.items() if 'loss' in name)


def cosines(head: nn.Module, tokens: np.ndarray) -> np.ndarray:
    """A :class:`PrototypeHead` in NumPy: (n, D) to (n, K)."""
    *hidden, last = (x for x in head.mlp if isinstance(x, nn.Linear))
    answers = tokens
    for layer in (*hidden, last):
        weight, bias = (x.detach().numpy() for x in (layer.weight, layer.bias))
        answers = answers @ weight.T + bias
        if layer is not last:
            answers = answers * ndtr(answers)  # GELU
    prototypes = head.prototypes.weight.detach().numpy()
    answers, prototypes = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (answers, prototypes)
    )
    return answers @ prototypes.T


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def spread(targets: TeacherTargets, logits: np.ndarray) -> np.ndarray:
    """Targets (n, K), by centering or by Sinkhorn-Knopp."""
    if targets.center is not None:
        center = targets.center.center.double().numpy()
        return np.exp(log_softmax((logits - center) / targets.temperature))
    shares = np.exp(logits / targets.temperature)
    for _ in range(targets.iterations):
        shares /= shares.sum(0, keepdims=True)
        shares /= shares.sum(1, keepdims=True)
    return shares


def reference(
    model: DINOv2,
    inputs: list[Tensor],
    num_images: int,
    masks: dict[str, Tensor],
    positions: Callable[[PositionViT, int, int, int], Tensor],
) -> dict[str, float]:
    """The whole step, view by view and patch by patch, in float64.

    Args:
        model: In float64.
        inputs: As for ``loss``.
        num_images: B.
        masks: Of each kind, (V·B, N).
        positions: Of the backbone, the size, the view among those of its size, and the
            image, the positions (N, D) of a view's patches.
    """

    def features(backbone: PositionViT, size: int, index: int, hidden: dict):
        patches, grid_size = backbone.patchify(inputs[size][index][None])
        patches = patches[0].detach().clone()
        where = positions(backbone, size, *divmod(index, num_images)).detach().clone()
        for patch in range(len(patches)):
            if 'content' in hidden and hidden['content'][index, patch]:
                patches[patch] = model.mask_token[0, 0]
            if 'position' in hidden and hidden['position'][index, patch]:
                where[patch] = model.pos_mask_token[0, 0]
        tokens = backbone.encode((patches + where)[None], grid_size=grid_size)[-1]
        return tokens[0].detach().numpy()  # (1 + N, D)

    known = len(inputs[0]) // num_images  # views that the teacher sees
    indices = range(len(inputs[0]))
    taught = [features(model.target_encoder, 0, index, {}) for index in indices]
    learnt = [features(model.backbone, 0, index, masks) for index in indices]
    others = [
        features(model.backbone, size, index, {})
        for size in range(1, len(inputs))
        for index in range(len(inputs[size]))
    ]

    teacher = np.stack([x[0] for x in taught])
    student = np.stack([x[0] for x in learnt + others])
    targets = spread(
        model.targets['cls'], cosines(model.target_heads['cls'], teacher)
    ).reshape(known, num_images, -1)
    answers = log_softmax(
        cosines(model.heads['cls'], student) / model.dino_loss.temperature
    )
    answers = answers.reshape(-1, num_images, answers.shape[-1])
    pairs = [
        (targets[t, image], answers[s, image])
        for t, s, image in product(range(known), range(len(answers)), range(num_images))
        if t != s
    ]
    koleo = 0.0
    for view in range(known):
        x = student[view * num_images : (view + 1) * num_images]
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        for i, one in enumerate(x):
            others_of_it = [np.linalg.norm(one - x[j]) for j in range(len(x)) if j != i]
            koleo -= np.log(min(others_of_it)) / num_images

    flat = targets.reshape(known * num_images, -1)
    most = np.log(flat.shape[1])
    eigenvalues = np.linalg.eigvalsh(np.cov(teacher.T))
    result = dict(
        loss_image=-np.mean([(t * s).sum() for t, s in pairs]),
        loss_koleo=model.koleo_loss.loss_weight * koleo,
        target_entropy=-np.mean([xlogy(t, t).sum() for t in flat]) / most,
        target_kl=np.mean([rel_entr(t, flat.mean(0)).sum() for t in flat]) / most,
        student_kl=np.mean([rel_entr(t, np.exp(s)).sum() for t, s in pairs]),
        feature_rank=eigenvalues.sum() ** 2 / (eigenvalues**2).sum(),
    )
    for kind, mask in masks.items():
        places = [(i, n) for i in indices for n in range(mask.shape[1]) if mask[i, n]]
        result[f'loss_{kind}'] = 0.0
        if not places:
            continue
        wanted, said = (
            cosines(heads[kind], np.stack([tokens[i][1 + n] for i, n in places]))
            for heads, tokens in ((model.target_heads, taught), (model.heads, learnt))
        )
        wanted = spread(model.targets[kind], wanted)
        said = log_softmax(said / model.dino_loss.temperature)
        for (i, _), t, s in zip(places, wanted, said, strict=True):
            share = len(indices) * mask[i].sum().item()
            result[f'loss_{kind}'] -= (t * s).sum() / share
    return result
