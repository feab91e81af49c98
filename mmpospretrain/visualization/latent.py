"""Pictures of what predictors in feature space do: Figures 5 and 6 of StoP.

Letters: B images, T target blocks of K patches, N patches of the grid, D width of the
encoder, P width of the predictor, S samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from ..models.positions import GridSize
from ..models.selfsup.ijepa import IJEPA

HIDDEN = 40  # brightness left of a masked patch


def position_similarity(queries: Tensor, positions: Tensor) -> Tensor:
    """Cosine similarity of each of S queries (S, P) to the positions (N, P): (S, N)."""
    return F.normalize(queries, dim=-1) @ F.normalize(positions, dim=-1).T


@torch.no_grad()
def sampled_positions(model: IJEPA, place: int, count: int) -> Tensor | None:
    """Positions that the predictor may be given for a patch while training, (S, P).

    Without the mask token, which all patches share.

    Returns:
        None if the predictor draws none.
    """
    training = model.neck.training
    model.neck.train()
    tokens = model.neck.masked_tokens(torch.full((count,), place)[None, None])
    model.neck.train(training)
    positions = (tokens - model.neck.mask_token)[0, 0]
    return None if torch.equal(positions[0], positions[-1]) else positions


def plot_position_similarity(
    model: IJEPA, places: Sequence[int], grid_size: GridSize, average: int = 256
) -> Figure:
    """Figure 5: a row for each query position, its similarity to all positions.

    Columns: the deterministic position; one stochastic draw; the mean over
    ``average`` draws. A model without noise has the first alone.

    Args:
        model: StoP, or I-JEPA.
        places: Patch ids of the queries; at least one.
        grid_size: ``(rows, cols)``.
        average: Number of draws of the last column.
    """
    positions = model.neck.pos_embed.detach()[0].cpu()  # (N, P)
    rows = []
    for place in places:
        maps = {'deterministic': position_similarity(positions[[place]], positions)[0]}
        draws = sampled_positions(model, place, average)
        if draws is not None:
            similarity = position_similarity(draws.cpu(), positions)  # (S, N)
            maps['stochastic, one draw'] = similarity[0]
            maps[f'mean of {average} draws'] = similarity.mean(0)
        rows.append(maps)
    figure = Figure(
        figsize=(2.2 * len(rows[0]) + 0.8, 2 * len(rows) + 0.4), layout='constrained'
    )
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    lowest = min(float(values.min()) for maps in rows for values in maps.values())
    for axis, title in zip(axes[0], rows[0], strict=True):
        axis.set_title(title, fontsize=10)
    for row, place, maps in zip(axes, places, rows, strict=True):
        for axis, values in zip(row, maps.values(), strict=True):
            axis.set(xticks=[], yticks=[])
            image = axis.imshow(values.view(grid_size), vmin=lowest, vmax=1)
            mark(axis, place, grid_size, 1)
        where = 'row {}, column {}'.format(*divmod(place, grid_size[1]))
        row[0].set_ylabel(where, fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.6, label='cosine similarity')
    return figure


class PredictedToken(NamedTuple):
    """What a model makes of a patch that it does not see."""

    image: np.ndarray
    """(H, W, 3) uint8."""
    block: list[int]
    """Patches that are hidden: one target block."""
    place: int
    """The patch in question."""
    similarity: np.ndarray
    """(rows, cols): of the predicted features to all features of the image."""
    target: np.ndarray
    """(rows, cols): of the true features, for comparison."""


@torch.no_grad()
def predict_token(
    model: IJEPA,
    inputs: Tensor,
    image: np.ndarray,
    generator: torch.Generator,
    temperature: float = 0.1,
) -> PredictedToken:
    """Predict the middle of a target block and compare (Sec. 4.3 of StoP).

    Args:
        model: In evaluation mode: positions are where they are expected.
        inputs: One normalised image (1, C, H, W).
        image: The same to be shown, (H, W, 3) uint8.
        generator: Of the masks, on the CPU.
        temperature: Of the softmax over cosine similarities; the paper names none.
    """
    ids = model.draw_masks(1, generator, inputs.device)
    predictions = model.neck(model.encode_context(inputs, ids.context), ids)
    features = model.encode_target(inputs)[0]  # (N, D)
    rows, cols = ids.target_size
    middle = rows // 2 * cols + cols // 2
    block = ids.targets[0, 0].tolist()
    queries = torch.stack((predictions[0, 0, middle], features[block[middle]]))
    maps = (position_similarity(queries, features) / temperature).softmax(dim=-1)
    maps = maps.unflatten(1, model.backbone.grid_size).cpu().numpy()
    return PredictedToken(image, block, block[middle], *maps)


def plot_predicted_tokens(tokens: Sequence[PredictedToken], patch_size: int) -> Figure:
    """Figure 6: a row per image; the hidden block, and where its middle could be.

    Args:
        tokens: At least one.
        patch_size: Side of a patch in pixels.
    """
    titles = ['image', 'hidden, asked for', 'predicted is like', 'truth is like']
    height, width = tokens[0].image.shape[:2]
    figure = Figure(
        figsize=(2 * len(titles), 2 * len(tokens) * height / width + 0.3),
        layout='constrained',
    )
    axes = figure.subplots(len(tokens), len(titles), squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    for row, token in zip(axes, tokens, strict=True):
        grid_size = token.similarity.shape
        hidden = token.image.copy()
        for patch in token.block:
            top, left = (patch_size * i for i in divmod(patch, grid_size[1]))
            hidden[top : top + patch_size, left : left + patch_size] = HIDDEN
        row[0].imshow(token.image)
        row[1].imshow(hidden)
        for axis, values in zip(row[2:], token[3:], strict=True):
            axis.imshow(token.image.mean(-1), cmap='gray', vmin=0, vmax=255)
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axis.imshow(values, cmap='inferno', alpha=0.7, extent=extent)
        for axis in row:
            axis.set(xticks=[], yticks=[])
        for axis in row[1:]:
            mark(axis, token.place, grid_size, patch_size)
    return figure


def mark(axis: Axes, place: int, grid_size: GridSize, patch_size: int) -> None:
    """Outline a patch in white on black, seen on any ground."""
    row, col = divmod(place, grid_size[1])
    corner = (col * patch_size - 0.5, row * patch_size - 0.5)
    for color, width in (('black', 3), ('white', 1.5)):
        axis.add_patch(
            Rectangle(corner, patch_size, patch_size, fill=False, ec=color, lw=width)
        )
