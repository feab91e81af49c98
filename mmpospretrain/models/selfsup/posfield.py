"""PosField: positions that follow the crop, masked and predicted like content.

Liu, Suganuma, Okatani, "Self-supervised learning of intertwined content and positional
features for object detection", ICML 2025. DINOv2, and two things more: positions are a
smooth field over the image, which every view crops as it crops the pixels (Sec. 3.2);
and some views have positions masked, whose features are to be said (Sec. 3.3).

Letters: B images, V views of one size, N patches of a view, P prefix tokens, D
embedding width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmpospretrain.checks import check_choice, check_ratio
from mmpospretrain.registry import MODELS

from ..backbones.position_vit import PositionViT
from ..device import send
from ..positions import (
    FieldPlaces,
    GridSize,
    PositionField,
    box_mask,
    cross_mask,
    draw_scales,
    move_views,
    to_grid_size,
)
from .dinov2 import DINOv2, Masking

SHAPES = dict(cross=cross_mask, box=box_mask)


@MODELS.register_module()
class FieldViT(PositionViT):
    """A ViT whose patches have their positions from a :class:`PositionField`.

    ``pos_embed`` (1, P, D) is that of the prefix tokens alone. For whole images it is
    an ordinary ViT, and `mmpospretrain.zoo.PretrainedBackbone` makes one of it.

    Args:
        field_size: Samples of the field along each side.
        field_mode: Between them: ``'bicubic'`` or ``'bilinear'``.
        positions: ``'learned'``, and nothing else.
        **kwargs: As for :class:`PositionViT`.

    Raises:
        ValueError: As :class:`PositionViT` and :class:`PositionField`.
    """

    def __init__(
        self,
        *,
        field_size: int = 50,
        field_mode: str = 'bicubic',
        positions: str = 'learned',
        **kwargs,
    ) -> None:
        check_choice('positions of a FieldViT', positions, ('learned',))
        super().__init__(positions=positions, **kwargs)
        self.pos_embed = nn.Parameter(
            self.pos_embed[:, : self.num_extra_tokens].clone()
        )
        self.field = PositionField(self.embed_dims, field_size, field_mode)
        if self.frozen_stages > 0:
            self._freeze_stages()  # what was made since upstream did so, too
            self.field.requires_grad_(False)

    def check_grid(self, grid_size: GridSize) -> None:
        """Nothing to say: a field has values for any grid."""

    def patch_positions(self, grid_size: GridSize | None = None) -> Tensor:
        """The field on the patches of a whole image, of any grid: (1, N, D)."""
        return self.field.pos_embed(grid_size or self.grid_size)


@MODELS.register_module()
class PosField(DINOv2):
    """DINOv2 whose positions follow the crop, and are masked and predicted (Eq. 6).

    Args:
        position_share: Share of the global views whose positions are masked (Tab. 5b);
            with 0, there is neither L_pos nor its head.
        position_shape: Shape of those masks: ``'cross'`` or ``'box'`` (Tab. 5a).
        scales: Sizes that an image's views are given in the field: ``'beta'``,
            ``'uniform'``, or ``'constant'``, where they stay as they are (Tab. 4a).
        **kwargs: As for :class:`DINOv2`. Without a :class:`FieldViT` for a backbone,
            positions do not follow the crop (Tab. 3).

    Raises:
        ValueError: If an option is out of range, or as :class:`DINOv2`.
    """

    def __init__(
        self,
        *,
        position_share: float = 0.5,
        position_shape: str = 'cross',
        scales: str = 'beta',
        **kwargs,
    ) -> None:
        check_ratio('position_share', position_share, closed=True)
        check_choice('position_shape', position_shape, SHAPES)
        draw_scales(0, scales)  # knows its names
        super().__init__(**kwargs)
        self.scales = scales
        self.pos_mask_token = None
        if position_share:
            content_share = self.maskings['content'].share
            if content_share + position_share > 1:
                raise ValueError(
                    f'content_share {content_share} + position_share {position_share} '
                    'is over 1: no view is masked in both'
                )
            self.maskings['position'] = Masking(position_share, SHAPES[position_shape])
            self.pos_mask_token = nn.Parameter(torch.zeros_like(self.mask_token))
            self.add_head('position')
            self.add_teacher(target_heads='heads')

    def init_weights(self) -> None:
        """Initialise all parts, then the position mask token (normal, std .02)."""
        super().init_weights()
        if self.pos_mask_token is not None:
            nn.init.normal_(self.pos_mask_token, std=0.02)

    def locate(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample]
    ) -> list[FieldPlaces | None]:
        """Of each size of views, the places of their patches in the field."""
        if not isinstance(self.backbone, FieldViT):
            return super().locate(inputs, data_samples)
        return [
            self.backbone.field.places(
                boxes,
                flipped,
                to_grid_size(tuple(views.shape[-2:]), self.backbone.patch_size),
            )
            for views, boxes, flipped in zip(
                inputs, *self.move(inputs, data_samples), strict=True
            )
        ]

    def move(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Where in the field views are: scaled and shifted, as said by ``scales``.

        Returns:
            Of each size, boxes (V·B, 4), and whether views are mirrored (V·B,).

        Raises:
            ValueError: If the data samples do not say where the views come from.
        """
        if not {'view_boxes', 'view_flipped'} <= {*data_samples[0].keys()}:
            raise ValueError(
                'positions cannot follow crops that are not known: make views with '
                "mmpospretrain.MultiCrop and PackInputs(algorithm_keys=('view_boxes', "
                "'view_flipped'))"
            )
        boxes, flipped = (
            torch.from_numpy(np.stack([sample.get(key) for sample in data_samples]))
            for key in ('view_boxes', 'view_flipped')
        )  # (B, all V, 4), (B, all V)
        scales = draw_scales(len(boxes), self.scales)
        if scales is not None:
            boxes = move_views(boxes, scales)
        counts = [len(views) for views in inputs]
        boxes, flipped = (
            send(x.transpose(0, 1).flatten(0, 1), inputs[0].device).split(counts)
            for x in (boxes, flipped)
        )
        return boxes, flipped

    def positions(
        self, backbone: PositionViT, grid_size: GridSize, place: FieldPlaces | None
    ) -> Tensor:
        """Positions (V·B, N, D) of the patches of views, as they lie in the field."""
        if place is None:
            return super().positions(backbone, grid_size, place)
        return backbone.field.at_places(place)

    def hide(
        self, patches: Tensor, positions: Tensor, masks: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """As DINOv2; masked positions are replaced by a token of their own (Eq. 4)."""
        patches, positions = super().hide(patches, positions, masks)
        if 'position' in masks:
            mask = send(masks['position'], patches.device)[..., None]
            positions = torch.where(mask, self.pos_mask_token, positions)
        return patches, positions
