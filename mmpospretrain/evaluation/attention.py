"""What attention looks at, and how places are alike: Figures 8, 10 and 11 of MP3.

The fused attention of a model stays as it is. From what goes into a layer, its map is
computed once more, measured, and forgotten before the next layer has one.

Letters: B images of a batch, M images in all, L layers, H heads, P prefix tokens ([CLS]
and registers, if any), N = R · C patches in R rows and C columns, T = P + N tokens, D
embedding width, d that of a head.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from mmpretrain.models import DeiT3, DistilledVisionTransformer, VisionTransformer
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.attention import ALL
from ..models.backbones.position_vit import PositionViT
from ..models.backbones.vitdet import GridAttention, ViTDet
from ..models.positions import GridSize, grid_coordinates, to_grid_size
from ..models.selfsup.position_predictor import evaluating


class HeadStatistics(NamedTuple):
    """What heads look at, averaged over images and over the patches that ask.

    The paper leaves [CLS] out of its maps and does not say how. Here it does not ask,
    and what patches give to one another is scaled to 1: entropy and map are those of a
    distribution over places, whatever share of a head went to [CLS]. Registers are
    treated as [CLS].
    """

    entropy: np.ndarray
    """(L, H) in nats, 0 … log N: ``H`` of Fig. 8."""
    prefix: np.ndarray
    """(L, H), 0 … 1: share of attention that goes to prefix tokens; 0 without any."""
    relative: np.ndarray
    """(L, H, 2R - 1, 2C - 1): attention by offset; see :func:`average_by_offset`."""
    num_images: int
    """M."""

    @property
    def grid_size(self) -> GridSize:
        """``(rows, cols)``."""
        return tuple((side + 1) // 2 for side in self.relative.shape[2:])

    def summary(self) -> dict:
        """Plain values of all but the maps, a row for each layer."""
        return dict(
            num_images=self.num_images,
            largest_entropy=math.log(math.prod(self.grid_size)),
            entropy=self.entropy.tolist(),
            attention_to_prefix=self.prefix.tolist(),
        )


class PositionCorrelation(NamedTuple):
    """Pearson correlation of the last layer's tokens, by place and place (Fig. 10)."""

    within: np.ndarray
    """(R, C, R, C): of two places in one image, averaged over images."""
    across: np.ndarray
    """(R, C, R, C): of a place in one and a place in another, over all pairs."""
    num_images: int
    """M."""

    def summary(self) -> dict:
        """Plain values: averages over places."""
        means = {}
        for name in ('within', 'across'):
            values = getattr(self, name)
            values = values.reshape(math.prod(values.shape[:2]), -1)  # (N, N)
            same = np.eye(len(values), dtype=bool)
            means[name] = dict(
                same_place=float(values[same].mean()),
                other_places=float(values[~same].mean()),
            )
        return dict(num_images=self.num_images, **means)


def head_statistics(
    backbone: VisionTransformer, batches: Iterable[Tensor]
) -> HeadStatistics:
    """Measure all heads.

    Args:
        backbone: See :func:`encode_measured`.
        batches: Normalised images (B, C, H, W), all of one size; at least one.

    Raises:
        ValueError: If the sizes differ, or the backbone is not of this kind.
    """
    means, count, _ = mean_over_images(backbone, batches, measure_heads)
    return HeadStatistics(**means, num_images=count)


def mean_over_images(
    backbone: VisionTransformer,
    batches: Iterable[Tensor],
    measure: Callable[[Tensor, GridSize], dict[str, Tensor]],
) -> tuple[dict[str, np.ndarray], int, GridSize]:
    """Average what is measured of all heads.

    Args:
        backbone: See :func:`encode_measured`.
        batches: Normalised images (B, C, H, W), all of one size; at least one.
        measure: As there; returns sums over images, the first dimension H.

    Returns:
        Means (L, H, …) by name, M, and the grid of the patches.

    Raises:
        ValueError: If the sizes differ, or the backbone is not of this kind.
    """
    totals: dict[str, np.ndarray] = {}
    count, grid_size = 0, None
    for images in batches:
        grid_size = same_grid(grid_size, backbone, images)
        _, layers = encode_measured(backbone, images, measure)
        for name in layers[0]:
            total = torch.stack([heads[name] for heads in layers]).cpu().numpy()
            totals[name] = totals.get(name, 0) + total
        count += len(images)
    return {name: x / count for name, x in totals.items()}, count, grid_size


def position_correlation(
    backbone: VisionTransformer, batches: Iterable[Tensor]
) -> PositionCorrelation:
    """Compare the last layer's tokens, place by place (Appendix D of MP3).

    The paper draws random pairs of images. The mean over all M · (M - 1) ordered pairs,
    which they estimate, needs no more than the sum of all tokens of a place.

    Args:
        backbone: See :func:`encode_measured`.
        batches: Normalised images (B, C, H, W), all of one size; two images at least.

    Raises:
        ValueError: If the sizes differ, there is one image, or the backbone is not of
            this kind.
    """
    products, total, count, grid_size = 0, 0, 0, None
    for images in batches:
        grid_size = same_grid(grid_size, backbone, images)
        tokens = encode_measured(backbone, images)[0].double()  # (B, N, D)
        # The correlation of two vectors is the product of these.
        tokens = F.normalize(tokens - tokens.mean(-1, keepdim=True), dim=-1)
        products = products + torch.einsum('bid,bjd->ij', tokens, tokens).cpu()
        total = total + tokens.sum(0).cpu()  # (N, D)
        count += len(images)
    if count < 2:
        raise ValueError(f'correlation across images needs at least two, got {count}')
    within = products / count
    across = (total @ total.T - products) / (count * (count - 1))
    maps = (x.view(*grid_size, *grid_size).numpy() for x in (within, across))
    return PositionCorrelation(*maps, num_images=count)


def measure_heads(attention: Tensor, grid_size: GridSize) -> dict[str, Tensor]:
    """Fields of :class:`HeadStatistics` for one layer, summed over images.

    Args:
        attention: Probabilities (B, H, T, T), query by key.
        grid_size: ``(rows, cols)``.

    Returns:
        float64, the first dimension H.
    """
    total = partial(torch.sum, dtype=torch.float64)
    num = math.prod(grid_size)
    prefix = attention[:, :, -num:, :-num]
    maps = patch_maps(attention, grid_size)
    return dict(
        entropy=total(torch.special.entr(maps), dim=(0, 2, 3)) / num,
        prefix=total(prefix, dim=(0, 2, 3)) / num,
        relative=average_by_offset(total(maps, dim=0), grid_size),
    )


def patch_maps(attention: Tensor, grid_size: GridSize) -> Tensor:
    """Attention of patches to patches, scaled so that rows sum to 1.

    Args:
        attention: Probabilities (B, H, T, T), query by key.
        grid_size: ``(rows, cols)``.

    Returns:
        (B, H, N, N).
    """
    num = math.prod(grid_size)
    return F.normalize(attention[:, :, -num:, -num:], p=1, dim=-1)


def average_by_offset(maps: Tensor, grid_size: GridSize) -> Tensor:
    """From attention of patch to patch to attention by offset, key minus query.

    The average over all pairs with an offset, not the sum: the paper says "average
    relative", and pairs grow fewer towards the rim, where sums would fade whatever a
    head does. So uniform attention is flat, 1 / N everywhere.

    Args:
        maps: (…, N, N), query by key.
        grid_size: ``(rows, cols)``.

    Returns:
        (…, 2R - 1, 2C - 1). The middle is a patch itself; right of it is what lies to
        the right of the patch that asks.
    """
    rows, cols = grid_size
    places = grid_coordinates(grid_size).long().to(maps.device)  # (N, 2)
    row, col = (places[None] - places[:, None]).unbind(-1)  # (N, N), key - query
    shape = (2 * rows - 1, 2 * cols - 1)
    offsets = ((row + rows - 1) * shape[1] + col + cols - 1).flatten()
    sums = maps.new_zeros(*maps.shape[:-2], math.prod(shape))
    sums.index_add_(-1, offsets, maps.flatten(-2))
    return (sums / offsets.bincount()).unflatten(-1, shape)


@torch.no_grad()
def encode_measured(
    backbone: VisionTransformer,
    images: Tensor,
    measure: Callable[[Tensor, GridSize], Any] | None = None,
    layers: slice = ALL,
) -> tuple[Tensor, list]:
    """Encode images in evaluation mode, and measure the attention of layers.

    Args:
        backbone: A `PositionViT`, with any positions, a `ViTDet` without windows, or a
            ViT of MMPretrain whose layers are plain.
        images: (B, C, H, W).
        measure: Called with the :func:`attention_map` of each layer and the grid of the
            patches. What it returns is kept, and the map is not.
        layers: Those to measure; by default all.

    Returns:
        Patch tokens (B, N, D) of the last layer, normed if the backbone ends with a
        norm; and what was measured, by layer.

    Raises:
        ValueError: As :func:`check_plain`.
    """
    check_plain(backbone)
    grid_size = to_grid_size(tuple(images.shape[-2:]), patch_size_of(backbone))
    last = backbone.ln1 if backbone.final_norm else backbone.layers[-1].ffn
    outputs: list[Tensor] = []
    measured: dict[nn.Module, Any] = {}
    with ExitStack() as hooks, evaluating(backbone):
        hook = partial(_keep_output, outputs)
        hooks.enter_context(last.register_forward_hook(hook))
        for layer in backbone.layers[layers] if measure else ():
            hook = partial(_measure_layer, layer, grid_size, measure, measured)
            # The norm, because `run_layer` never calls the attention after it.
            hooks.enter_context(layer.ln1.register_forward_hook(hook))
        if isinstance(backbone, (DeiT3, DistilledVisionTransformer, ViTDet)):
            backbone(images)  # whose tokens and positions are put together differently
        elif isinstance(backbone, PositionViT):
            patches, _ = backbone.patchify(images)
            backbone.check_grid(grid_size)
            patches = patches + backbone.patch_positions(grid_size)
            backbone.encode(patches, grid_size=grid_size)
        else:  # past what subclasses do first: MAE's would mask
            VisionTransformer.forward(backbone, images)
    (tokens,) = outputs
    tokens = as_sequence(tokens)
    return tokens[:, -math.prod(grid_size) :], [*measured.values()]


def check_plain(backbone: VisionTransformer) -> None:
    """Raise a ValueError if layers have another attention.

    Such are windows and relative positions of a `ViTDet`, and those of BEiT and EVA-02.
    """
    for layer in backbone.layers:
        name = None
        if not isinstance(layer.attn, GridAttention):
            if type(layer.attn) is not MultiheadAttention:
                name = type(layer.attn).__name__
        elif layer.attn.window_size:
            name = 'windows'
        elif layer.attn.rel_pos_h is not None:
            name = 'relative positions'
        if name:
            raise ValueError(
                'only the attention of a plain ViT is shown, and the layers of this '
                f'{type(backbone).__name__} have {name}'
            )


def as_sequence(tokens: Tensor) -> Tensor:
    """(B, T, D) as it is, and the map of a `ViTDet`, (B, R, C, D), as (B, R · C, D)."""
    return tokens.flatten(1, -2)


def attention_map(
    attention: MultiheadAttention, tokens: Tensor, bias: Tensor | None = None
) -> Tensor:
    """What the fused attention multiplies values with, and never writes down.

    Args:
        attention: Gives the weights.
        tokens: (B, T, D), as the layer's first norm leaves them.
        bias: Added to the logits, any shape that broadcasts to (B, H, T, T).

    Returns:
        Probabilities (B, H, T, T), query by key; rows sum to 1.
    """
    qkv = attention.qkv(tokens).unflatten(-1, (3, attention.num_heads, -1))
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, d) each
    logits = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return (logits if bias is None else logits + bias).softmax(dim=-1)


# --- forward hooks, which get a module, its arguments and its output


def _keep_output(
    outputs: list[Tensor], module: nn.Module, args: tuple[Tensor], out: Tensor
) -> None:
    outputs.append(out)


def _measure_layer(
    layer: nn.Module,
    grid_size: GridSize,
    measure: Callable[[Tensor, GridSize], Any],
    measured: dict[nn.Module, Any],
    norm: nn.Module,
    args: tuple[Tensor],
    tokens: Tensor,
) -> None:
    if layer in measured:  # DeiT III norms what goes into the MLP with it, too
        return
    relative = getattr(layer.attn, 'rel_pos_bias', None)
    bias = relative(grid_size) if relative is not None else None
    tokens = as_sequence(tokens)
    measured[layer] = measure(attention_map(layer.attn, tokens, bias), grid_size)


# --- grids


def patch_size_of(backbone: VisionTransformer) -> int:
    """Side of a patch in pixels."""
    return backbone.patch_embed.projection.stride[0]


def same_grid(
    grid_size: GridSize | None, backbone: VisionTransformer, images: Tensor
) -> GridSize:
    """The grid of images, which has to be that of the images before, if any.

    Raises:
        ValueError: If it is another, or the patch does not divide the images.
    """
    found = to_grid_size(tuple(images.shape[-2:]), patch_size_of(backbone))
    if grid_size not in (None, found):
        raise ValueError(
            f'images have grids of {grid_size} and of {found} patches, and averages '
            'need one: crop them in the pipeline'
        )
    return found
