"""How well are positions put back? The 16 cases of Tabs. S3-S5 of DropPos.

Letters: B images, N patches of the grid, V visible patches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from mmpospretrain.progress import track

from ..models.selfsup.droppos import DropPos
from ..models.selfsup.position_predictor import (
    PositionPredictor,
    Reconstruction,
    evaluating,
)

MASK_RATIOS = (0.0, 0.25, 0.5, 0.75)
POS_MASK_RATIOS = (0.25, 0.5, 0.75, 0.95)
GROUPS = ('all', 'context', 'masked')  # the patches that are counted


@dataclass(frozen=True)
class PositionTable:
    """Top-1 position accuracy in percent, one row per γ, one column per γ_pos."""

    accuracy: np.ndarray
    """(rows, columns) float."""
    mask_ratios: tuple[float, ...]
    pos_mask_ratios: tuple[float, ...]
    chance: float
    """Accuracy of guessing, 100 / N."""
    num_images: int

    @property
    def row_averages(self) -> np.ndarray:
        """Average over γ_pos for every γ, the ``avg.`` of Tab. S3."""
        return self.accuracy.mean(axis=1)

    @property
    def average(self) -> float:
        """Average over all cases, the ``Avg. acc`` of the paper."""
        return float(self.accuracy.mean())

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dict(
            mask_ratios=self.mask_ratios,
            pos_mask_ratios=self.pos_mask_ratios,
            accuracy=self.accuracy.tolist(),
            row_averages=self.row_averages.tolist(),
            average=self.average,
            chance=self.chance,
            num_images=self.num_images,
        )


def position_table(
    model: DropPos,
    loader: Iterable[dict],
    mask_ratios: Sequence[float] = MASK_RATIOS,
    pos_mask_ratios: Sequence[float] = POS_MASK_RATIOS,
    seed: int = 0,
) -> PositionTable:
    """Measure top-1 accuracy over all dropped patches of a data set, case by case.

    Args:
        model, loader, seed: As for :func:`count_cases`, which says what is raised.
        mask_ratios: γ of the rows.
        pos_mask_ratios: γ_pos of the columns.
    """
    cases = list(product(mask_ratios, pos_mask_ratios))
    counts, num_images = count_cases(model, loader, cases, seed)
    correct, dropped = counts[:, 0].T  # (cases,) each
    rows, cols = model.backbone.grid_size
    return PositionTable(
        accuracy=(100 * correct / dropped).reshape(len(mask_ratios), -1),
        mask_ratios=tuple(mask_ratios),
        pos_mask_ratios=tuple(pos_mask_ratios),
        chance=100 / (rows * cols),
        num_images=num_images,
    )


def count_cases(
    model: PositionPredictor,
    loader: Iterable[dict],
    cases: Sequence[tuple[float, ...]],
    seed: int,
) -> tuple[np.ndarray, int]:
    """Count the patches of a data set that are put in place, case by case.

    The images are read once for all cases. Masks follow from the seed and the index of
    an image alone: neither batch size nor device nor the other cases change them.

    Args:
        model: Put into evaluation mode, and back afterwards.
        loader: Batches for the model's ``data_preprocessor``, in a fixed order.
        cases: As for :func:`reconstruct_cases`.
        seed: Of the masks.

    Returns:
        (cases, 3, 2) long, :func:`count_correct` over all images; and their number.

    Raises:
        ValueError: If the loader is empty, or as :func:`reconstruct_cases`.
    """
    generators = [torch.Generator().manual_seed(seed) for _ in cases]
    counts = []  # of every batch: (cases, 3, 2), on the device until the end
    num_images = 0
    for batch in track(loader, 'position accuracy'):
        inputs = model.data_preprocessor(batch)['inputs']
        results = reconstruct_cases(model, inputs, cases, generators)
        counts.append(torch.stack([count_correct(result) for result in results]))
        num_images += len(inputs)
    if not counts:
        raise ValueError('there is no image to evaluate positions on')
    return torch.stack(counts).sum(dim=0).cpu().numpy(), num_images


def count_correct(result: Reconstruction) -> Tensor:
    """How many patches are in place, and how many there are, anchors left out.

    Returns:
        (3, 2) long: of all patches, of those that the others could see, and of those
        that they could not (:data:`GROUPS`).
    """
    dropped, context = result.dropped, result.context
    groups = torch.stack((dropped, dropped & context, dropped & ~context))
    correct = groups & (result.predicted == result.ids)
    counts = torch.stack((correct, groups), dim=-1)  # (3, …, V, 2)
    return counts.flatten(1, -2).sum(dim=1)


def reconstruct_cases(
    model: PositionPredictor,
    inputs: Tensor,
    cases: Sequence[tuple[float, ...]],
    generators: Sequence[torch.Generator],
) -> list[Reconstruction]:
    """Put the patches of the same images in place under several ratios.

    Args:
        model: Put into evaluation mode, and back afterwards.
        inputs: Normalised images (B, C, H, W).
        cases: Ratios of the model's ``draw_masks``: (γ, γ_pos) of DropPos, (η,) of MP3.
        generators: One per case, on the CPU. An image takes its masks from them before
            the next image does, so that the size of a batch does not matter.

    Raises:
        ValueError: If the model does not predict positions, or a ratio is out of range.
    """
    check_predictor(model)
    with torch.no_grad():
        patches = model.backbone.patchify_own_grid(inputs)  # (B, N, D)
    return place_cases(model, patches, cases, generators)


def check_predictor(model: nn.Module) -> None:
    """Raise a ValueError unless ``model`` predicts positions."""
    if not isinstance(model, PositionPredictor):
        raise ValueError(
            f'positions are reconstructed by DropPos, MP3 and their kin, not by a '
            f'{type(model).__name__}: give a config of configs/droppos or configs/mp3'
        )


def place_cases(
    model: PositionPredictor,
    patches: Tensor,
    cases: Sequence[tuple[float, ...]],
    generators: Sequence[torch.Generator],
) -> list[Reconstruction]:
    """As :func:`reconstruct_cases`, of ``patches`` (B, N, D) from whatever images."""
    results = []
    with evaluating(model):
        for ratios, generator in zip(cases, generators, strict=True):
            drawn = [model.draw_masks(1, *ratios, generator=generator) for _ in patches]
            masks = [torch.cat(x).to(patches.device) for x in zip(*drawn, strict=True)]
            results.append(model.place(patches, type(drawn[0])(*masks)))
    return results
