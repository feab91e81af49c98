"""DropPos: pre-training ViTs by reconstructing dropped positions.

Wang et al., NeurIPS 2023. Most patches are masked, as in MAE; of the patches that stay,
most lose their position embedding, and the model has to say where they belong.

    images ─ patchify ─ keep V of N ─ drop positions ─ encode ─ decode ─ where was it?

Where the paper and its released code differ, the paper is the default.

Letters: B images, N patches of the grid, V visible patches, D embedding width.
"""

import math
from typing import NamedTuple

import torch
from mmpretrain.models.heads import MAEPretrainHead
from mmpretrain.models.necks import MAEPretrainDecoder
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from mmpospretrain.checks import check_at_least, check_choice, check_ratio
from mmpospretrain.registry import MODELS

from ..backbones.position_vit import check_position_embedding, loads_weights
from ..losses.position_loss import position_accuracy
from ..positions import (
    gather_tokens,
    num_kept,
    random_mask,
    shuffle_ids,
    sincos_pos_embed,
)
from .position_predictor import (
    PositionPredictor,
    Reconstruction,
    build_backbone,
    evaluating,
)

AFFINITY_SOURCES = ('image', 'visible')


class Masks(NamedTuple):
    """Which patches are visible, and which of them lose their position."""

    order: Tensor
    """(B, N) long: the patches in random order, the visible ones first."""
    dropped: Tensor
    """(B, V) bool: True where a visible patch loses its position embedding."""

    @property
    def visible(self) -> Tensor:
        """(B, V) long: ids of the visible patches."""
        return self.order[:, : self.dropped.shape[1]]


def cls_affinity(features: Tensor, temperature: float) -> Tensor:
    """How much a patch resembles the [CLS] token (Eq. 9 of DropPos).

    Args:
        features: (B, 1 + N, D), [CLS] first.
        temperature: τ > 0.

    Returns:
        (B, N), float32, rows sum to 1.
    """
    features = features.float()
    cosine = F.cosine_similarity(features[:, :1], features[:, 1:], dim=-1)
    return (cosine / temperature).softmax(dim=-1)  # (B, N)


@MODELS.register_module()
class DropPos(PositionPredictor):
    """Reconstruct dropped positions.

    Args:
        backbone: Config of a :class:`PositionViT` with a [CLS] token.
        head: Config of a :class:`PositionHead`; it learns the grid and the width of the
            backbone from here.
        mask_ratio: γ in [0, 1), the share of patches that are masked (Eq. 1).
        pos_mask_ratio: γ_pos in (0, 1], the share of visible patches that lose their
            position (Eq. 2).
        temperature: τ of attentive reconstruction (Eq. 9). None is the paper's τ = ∞:
            all patches count the same, and nothing is computed for it. From .01 on.
        affinity_source: Features behind the affinity: ``'image'``, those of a pass
            without gradient over the whole image with all its positions (paper), or
            ``'visible'``, those of the training pass itself, over the visible
            patches alone, at no extra cost.
        **kwargs: ``data_preprocessor`` and ``init_cfg``, as everywhere in MMPretrain.

    Raises:
        ValueError: If a ratio, the temperature or the source is out of range, or the
            backbone does not fit.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        mask_ratio: float = 0.75,
        pos_mask_ratio: float = 0.75,
        temperature: float | None = 0.1,
        affinity_source: str = 'image',
        **kwargs,
    ) -> None:
        check_ratio('mask_ratio', mask_ratio)
        check_ratio('pos_mask_ratio', pos_mask_ratio, low_open=True, closed=True)
        if temperature is not None:
            # Below, weights of patches that are unlike [CLS] underflow; where those are
            # the dropped ones, nothing is left to take a mean of.
            check_at_least('temperature (None: off)', temperature, 0.01)
        check_choice('affinity_source', affinity_source, AFFINITY_SOURCES)
        backbone = build_backbone('DropPos', backbone)
        if backbone.cls_token is None:
            raise ValueError(
                'DropPos needs a backbone with with_cls_token=True: [CLS] keeps its '
                'position, and attentive reconstruction compares patches to it'
            )
        check_position_embedding('DropPos', backbone)
        super().__init__(backbone, head, **kwargs)
        self.mask_ratio = mask_ratio
        self.pos_mask_ratio = pos_mask_ratio
        self.temperature = temperature
        self.affinity_source = affinity_source
        self.pos_mask_token = nn.Parameter(torch.zeros(1, 1, backbone.embed_dims))

    def init_weights(self) -> None:
        """Initialise all parts, then the position mask token (normal, std .02); what
        ``init_cfg`` has loaded stays.
        """
        super().init_weights()
        if not loads_weights(self):
            nn.init.normal_(self.pos_mask_token, std=0.02)

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """One training step.

        Args:
            inputs: Normalised images (B, C, H, W) of the backbone's ``img_size``.
            data_samples: Not used: there are no labels.

        Returns:
            ``loss``, and for the log ``position_acc`` in percent over dropped
            positions and the smoothing width ``sigma``.
        """
        patches = self.backbone.patchify_own_grid(inputs)  # (B, N, D)
        masks = self.draw_masks(len(inputs), device=inputs.device)
        features = self.encode_visible(patches, masks)  # (B, 1 + V, D)
        loss, log = self.locate(patches, masks, features)
        return dict(loss=loss, **log)

    def draw_masks(
        self,
        batch_size: int,
        mask_ratio: float | None = None,
        pos_mask_ratio: float | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> Masks:
        """Choose the visible patches and those that lose their position (Eqs. 1, 2).

        Args:
            batch_size: B.
            mask_ratio: γ, by default the model's.
            pos_mask_ratio: γ_pos, by default the model's.
            generator: Source of randomness, on ``device``.
            device: Where the masks live.
        """
        if mask_ratio is None:
            mask_ratio = self.mask_ratio
        if pos_mask_ratio is None:
            pos_mask_ratio = self.pos_mask_ratio
        num = math.prod(self.backbone.grid_size)
        visible = num_kept(num, mask_ratio)
        anchors = num_kept(visible, pos_mask_ratio, minimum=0)
        order = shuffle_ids(batch_size, num, generator, device)
        dropped = random_mask(batch_size, visible, visible - anchors, generator, device)
        return Masks(order, dropped)

    def encode_visible(self, patches: Tensor, masks: Masks) -> Tensor:
        """Features (B, 1 + V, D) of [CLS] and the visible of ``patches`` (B, N, D).

        Dropped positions are replaced by the mask token (Eq. 3).
        """
        positions = self.backbone.patch_positions().expand_as(patches)
        positions = gather_tokens(positions, masks.visible)  # (B, V, D)
        positions = torch.where(
            masks.dropped[..., None], self.pos_mask_token, positions
        )
        visible = gather_tokens(patches, masks.visible)  # (B, V, D)
        return self.backbone.encode(visible + positions)[-1]

    def locate(
        self, patches: Tensor, masks: Masks, features: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over the dropped positions (Eq. 8), and what the log should show."""
        logits = self.head(features)  # (B, V, N)
        weight = masks.dropped * self.affinity(patches, masks, features)  # (B, V)
        loss = self.head.loss(logits, masks.visible, weight)
        return loss, dict(
            position_acc=position_accuracy(logits, masks.visible, masks.dropped),
            sigma=self.head.loss_module.sigma,
        )

    @torch.no_grad()
    def affinity(self, patches: Tensor, masks: Masks, features: Tensor) -> Tensor:
        """Weight (B, V) of the visible patches by attentive reconstruction (Eq. 9)."""
        if self.temperature is None:
            return torch.ones_like(masks.visible, dtype=torch.float32)
        if self.affinity_source == 'visible':
            return cls_affinity(features, self.temperature)
        with evaluating(self.backbone):
            features = self.backbone.encode(patches + self.backbone.patch_positions())
        return cls_affinity(features[-1], self.temperature).gather(1, masks.visible)

    @torch.no_grad()
    def place(self, patches: Tensor, masks: Masks) -> Reconstruction:
        """Put the visible of ``patches`` (B, N, D) in place; all see each other."""
        predicted = self.head(self.encode_visible(patches, masks)).argmax(dim=-1)
        everywhere = torch.ones_like(masks.dropped)
        return Reconstruction(masks.visible, masks.dropped, everywhere, predicted)


@MODELS.register_module()
class DropPosMAE(DropPos):
    """DropPos beside MAE's pixel reconstruction: ``multi_task`` of the released code.

    The total is ``position_weight`` · L_pos + L_mae.

    Args:
        pixel_decoder: Config of an :class:`MAEGridDecoder`.
        pixel_head: Config of an :class:`MAEGridHead`.
        position_weight: Weight of the position loss.
        **kwargs: As for :class:`DropPos`.

    Raises:
        ValueError: As :class:`DropPos` does, or if nothing is masked or the weight is
            negative.
    """

    def __init__(
        self,
        *,
        pixel_decoder: dict,
        pixel_head: dict,
        position_weight: float = 0.05,
        **kwargs,
    ) -> None:
        check_at_least('position_weight', position_weight, 0)
        super().__init__(**kwargs)
        if self.mask_ratio == 0:
            raise ValueError('mask_ratio must be above 0: MAE rebuilds masked patches')
        vit = self.backbone
        grid = dict(grid_size=vit.grid_size, patch_size=vit.patch_size)
        decoder = dict(
            type='mmpospretrain.MAEGridDecoder',
            embed_dim=vit.embed_dims,
            in_chans=vit.in_channels,
        )
        head = dict(type='mmpospretrain.MAEGridHead', in_channels=vit.in_channels)
        self.pixel_decoder = MODELS.build({**decoder, **grid, **pixel_decoder})
        self.pixel_head = MODELS.build({**head, **grid, **pixel_head})
        self.position_weight = position_weight

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """One training step: as :meth:`DropPos.loss`, with ``loss_pixel`` added."""
        patches = self.backbone.patchify_own_grid(inputs)
        masks = self.draw_masks(len(inputs), device=inputs.device)
        features = self.encode_visible(patches, masks)
        loss, log = self.locate(patches, masks, features)
        rank = masks.order.argsort(dim=1)  # (B, N), place of a patch in the order
        masked = rank >= masks.dropped.shape[1]  # (B, N)
        pixels = self.pixel_decoder(features, rank)  # (B, N, p·p·C)
        return dict(
            loss_position=self.position_weight * loss,
            loss_pixel=self.pixel_head.loss(pixels, inputs, masked),
            **log,
        )


@MODELS.register_module()
class MAEGridDecoder(MAEPretrainDecoder):
    """MMPretrain's MAE decoder on any grid; upstream's takes a square root."""

    def __init__(self, grid_size: tuple[int, int], **kwargs) -> None:
        self.grid_size = grid_size
        super().__init__(num_patches=grid_size[0] * grid_size[1], **kwargs)

    def init_weights(self) -> None:
        """Initialise the mask token and the sin-cos embedding of the grid."""
        super(MAEPretrainDecoder, self).init_weights()
        width = self.decoder_pos_embed.shape[-1]
        self.decoder_pos_embed.data.copy_(sincos_pos_embed(self.grid_size, width, 1))
        nn.init.normal_(self.mask_token, std=0.02)


@MODELS.register_module()
class MAEGridHead(MAEPretrainHead):
    """MMPretrain's MAE head on any grid; upstream's wants square images."""

    def __init__(self, grid_size: tuple[int, int], **kwargs) -> None:
        super().__init__(**kwargs)
        self.grid_size = grid_size

    def patchify(self, imgs: Tensor) -> Tensor:
        """Pixels (B, N, p·p·C) of every patch, channels last within it as upstream."""
        rows, cols = self.grid_size
        p = self.patch_size
        x = imgs.unflatten(3, (cols, p)).unflatten(2, (rows, p))  # (B, C, r, p, c, p)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (B, N, p·p·C)
