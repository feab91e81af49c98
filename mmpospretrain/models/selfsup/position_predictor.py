"""What DropPos and MP3 share: a model that says where patches belong.

Letters: B images, V patches that are put in place, D embedding width.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmpospretrain.registry import MODELS

from ..backbones.position_vit import PositionViT
from ..backbones.vitdet import ViTDet


class Reconstruction(NamedTuple):
    """Where the model puts patches."""

    ids: Tensor
    """(B, V) long: where they belong."""
    dropped: Tensor
    """(B, V) bool: False for anchors, whose position the model was told."""
    context: Tensor
    """(B, V) bool: False for patches that the others could not see."""
    predicted: Tensor
    """(B, V) long: where the model puts them."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run without dropout and stochastic depth, then restore every training mode."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        yield
    finally:
        for m in training:
            m.training = True


def build_backbone(method: str, cfg: dict) -> PositionViT:
    """Build the backbone of a ``method``.

    Raises:
        ValueError: If it can't do with tokens what the methods ask for.
    """
    backbone = MODELS.build(cfg)
    if not isinstance(backbone, PositionViT) or isinstance(backbone, ViTDet):
        raise ValueError(
            f'{method} needs an mmpospretrain.PositionViT as its backbone, got a '
            f'{type(backbone).__name__}'
        )
    return backbone


class PositionPredictor(BaseSelfSupervisor):
    """A backbone, and a head that puts its patches in place.

    Args:
        backbone: A :class:`PositionViT`.
        head: Config of a :class:`PositionHead`; it learns the grid, the width and the
            prefix of the backbone from here.
        **kwargs: ``data_preprocessor`` and ``init_cfg``, as everywhere in MMPretrain.

    Raises:
        ValueError: If the data_preprocessor and the backbone disagree about channels.
    """

    def __init__(self, backbone: nn.Module, head: dict, **kwargs) -> None:
        head = {
            **head,
            'grid_size': backbone.grid_size,
            'in_channels': backbone.embed_dims,
            'num_prefix_tokens': backbone.num_extra_tokens,
        }
        super().__init__(backbone=backbone, head=head, **kwargs)
        mean = getattr(self.data_preprocessor, 'mean', None)
        if mean is not None and mean.numel() not in (1, backbone.in_channels):
            raise ValueError(
                f'the data_preprocessor normalises {mean.numel()} channels, the '
                f'backbone takes {backbone.in_channels}'
            )

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | tuple | dict | list[DataSample]:
        """MMPretrain's ``tensor`` and ``loss``, and ``predict`` for evaluation."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    @abstractmethod
    def draw_masks(
        self,
        batch_size: int,
        *ratios: float,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> tuple[Tensor, ...]:
        """What is hidden, a named tuple of (B, …) each; by default at own ratios."""

    @abstractmethod
    def place(self, patches: Tensor, masks: tuple[Tensor, ...]) -> Reconstruction:
        """Say where ``patches`` (B, N, D) belong, hidden as ``masks`` say."""

    @torch.no_grad()
    def reconstruct(
        self,
        inputs: Tensor,
        *ratios: float,
        generator: torch.Generator | None = None,
    ) -> Reconstruction:
        """Put patches in place, for evaluation and pictures.

        Args:
            inputs: Normalised images (B, C, H, W).
            ratios: As in :meth:`draw_masks`.
            generator: On the device of ``inputs``.
        """
        masks = self.draw_masks(
            len(inputs), *ratios, generator=generator, device=inputs.device
        )
        return self.place(self.backbone.patchify_own_grid(inputs), masks)

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Reconstruct positions for :class:`PositionAccuracy`.

        The masks follow from the index of the batch's first image, so that every
        validation sees the same ones and none touches the training's randomness.
        """
        data_samples = data_samples or [DataSample() for _ in inputs]
        generator = torch.Generator(inputs.device)
        generator.manual_seed(int(data_samples[0].get('sample_idx', 0)))
        result = self.reconstruct(inputs, generator=generator)
        for name, values in result._asdict().items():
            for sample, value in zip(data_samples, values, strict=True):
                sample.set_field(value, f'position_{name}')
        for sample in data_samples:
            sample.set_field(math.prod(self.backbone.grid_size), 'position_places')
        return data_samples
