"""How well are positions put back? The 16 cases of Tabs. S3-S5 of DropPos.

Letters: B images, N patches of the grid, V visible patches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ..models.selfsup.droppos import DropPos
from ..models.selfsup.position_predictor import (
    PositionPredictor,
    Reconstruction,
    evaluating,
)

MASK_RATIOS = (0.0, 0.25, 0.5, 0.75)
POS_MASK_RATIOS = (0.25, 0.5, 0.75, 0.95)


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

    The images are read once for all cases. Masks follow from the seed and the index of
    an image alone: neither batch size nor device nor the other cases change them.

    Args:
        model: Put into evaluation mode, and back afterwards.
        loader: Batches for the model's ``data_preprocessor``, in a fixed order.
        mask_ratios: γ of the rows.
        pos_mask_ratios: γ_pos of the columns.
        seed: Of the masks.

    Raises:
        ValueError: If the model does not predict positions, a ratio is out of range,
            or the loader is empty.
    """
    cases = list(product(mask_ratios, pos_mask_ratios))
    generators = [torch.Generator().manual_seed(seed) for _ in cases]
    counts = []  # of every batch: (cases, 2), on the device until the end
    num_images = 0
    console = Console(stderr=True)
    for batch in track(loader, description='Position accuracy', console=console):
        inputs = model.data_preprocessor(batch)['inputs']
        results = reconstruct_cases(model, inputs, cases, generators)
        counts.append(torch.stack([count_correct(result) for result in results]))
        num_images += len(inputs)
    if not counts:
        raise ValueError('there is no image to evaluate positions on')
    correct, dropped = torch.stack(counts).sum(dim=0).double().T  # (cases,) each
    accuracy = (100 * correct / dropped).reshape(len(mask_ratios), -1)
    rows, cols = model.backbone.grid_size
    return PositionTable(
        accuracy=accuracy.cpu().numpy(),
        mask_ratios=tuple(mask_ratios),
        pos_mask_ratios=tuple(pos_mask_ratios),
        chance=100 / (rows * cols),
        num_images=num_images,
    )


def count_correct(result: Reconstruction) -> Tensor:
    """Dropped patches put in place, and all dropped patches: (2,) long."""
    correct = (result.predicted == result.ids) & result.dropped
    return torch.stack((correct.sum(), result.dropped.sum()))


@torch.no_grad()
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
    if not isinstance(model, PositionPredictor):
        raise ValueError(
            f'positions are reconstructed by DropPos, MP3 and their kin, not by a '
            f'{type(model).__name__}: give a config of configs/droppos or configs/mp3'
        )
    results = []
    with evaluating(model):
        patches = model.backbone.patchify_own_grid(inputs)  # (B, N, D)
        for ratios, generator in zip(cases, generators, strict=True):
            drawn = [model.draw_masks(1, *ratios, generator=generator) for _ in inputs]
            masks = [torch.cat(x).to(inputs.device) for x in zip(*drawn, strict=True)]
            results.append(model.place(patches, type(drawn[0])(*masks)))
    return results
