"""I-JEPA: predicting, from one part of an image, the features of others.

Assran et al., CVPR 2023; the base of StoP. A context encoder sees a large block of the
image, less some target blocks. From its features, a narrow predictor says what a target
encoder makes of those blocks, which has seen the whole image. The target encoder gets
no gradient; it follows the context encoder (``TeacherHook``).

    context ─ encode ─ predict ─┐
                                ├─ smooth L1
    image ─ target encoder ─────┘

Letters: B images, C context patches, T target blocks of K patches, N patches of the
grid, D embedding width.
"""

import torch
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn import functional as F

from mmpospretrain.registry import MODELS

from ..backbones.position_vit import check_position_embedding
from ..positions import (
    BlockIds,
    check_multiblock,
    gather_blocks,
    gather_tokens,
    multiblock_ids,
)
from .teacher_student import TeacherStudent


def feature_std(features: Tensor) -> Tensor:
    """How much features tell images apart: 0 when they do not depend on the image.

    Images are compared place by place. Over places too, features would differ as long
    as they say where a patch is, even if a teacher no longer looks at its content.

    Args:
        features: (B, N, D). Few images underestimate: on normal features, two show .56
            of what many would. A single image has no other to differ from; its patches
            are compared with each other then, which sees only that all are the same.

    Returns:
        The standard deviation over the images, averaged over places and channels. At
        most 1 if every token is normed.
    """
    others = 0 if len(features) > 1 else 1
    return features.float().std(dim=others, correction=0).mean()


@MODELS.register_module()
class IJEPA(TeacherStudent):
    """Predict features of target blocks from a context block.

    Args:
        backbone: Config of a :class:`PositionViT` without a [CLS] token.
        neck: Config of a :class:`LatentPredictor`; it learns the grid and the width of
            the backbone from here.
        num_targets: T, at least 1.
        target_scale: Range of a target's share of the image.
        target_aspect: Range of a target's height over its width, as far as the grid has
            room.
        context_scale: Range of the context block's share of the image, before the
            targets are taken out.
        min_context: At least so many patches remain as context; at least 1.
        **kwargs: ``data_preprocessor`` and ``init_cfg``, as everywhere in MMPretrain.

    Raises:
        ValueError: If the backbone has a [CLS] token or no position embedding, or not
            every batch would find its blocks on the grid (:func:`check_multiblock`).
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        num_targets: int = 4,
        target_scale: tuple[float, float] = (0.15, 0.2),
        target_aspect: tuple[float, float] = (0.75, 1.5),
        context_scale: tuple[float, float] = (0.85, 1.0),
        min_context: int = 10,
        **kwargs,
    ) -> None:
        backbone = MODELS.build(backbone)
        if backbone.cls_token is not None:
            raise ValueError(
                'I-JEPA needs a backbone with with_cls_token=False: its targets are '
                'patches, and nothing would train a [CLS] token'
            )
        check_position_embedding('I-JEPA', backbone)
        neck = {
            **neck,
            'grid_size': backbone.grid_size,
            'in_channels': backbone.embed_dims,
        }
        super().__init__(backbone=backbone, neck=neck, **kwargs)
        self.add_teacher(target_encoder='backbone')
        self.blocks = dict(
            num_targets=num_targets,
            target_scale=target_scale,
            target_aspect=target_aspect,
            context_scale=context_scale,
            min_context=min_context,
        )
        self.shared_seed: int | None = None  # StepSeedHook sets it
        check_multiblock(backbone.grid_size, **self.blocks)

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """One training step.

        Args:
            inputs: Normalised images (B, C, H, W) of the backbone's ``img_size``.
            data_samples: Not used: there are no labels.

        Returns:
            ``loss``, and for the log ``target_std``: see :func:`feature_std`.
        """
        ids = self.draw_masks(len(inputs), device=inputs.device)
        context = self.encode_context(inputs, ids.context)  # (B, C, D)
        predictions = self.neck(context, ids)  # (B, T, K, D)
        features = self.encode_target(inputs)  # (B, N, D)
        targets = gather_blocks(features, ids.targets)  # (B, T, K, D)
        losses = self.compare(predictions, targets, ids)
        return dict(losses, target_std=feature_std(features))

    def draw_masks(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> BlockIds:
        """Choose the context and the target blocks of every image.

        Args:
            batch_size: B.
            generator: Source of randomness, on the CPU; without, sizes follow from
                ``shared_seed``, if there is one, so that all ranks have the same.
            device: Where the ids go.
        """
        sizes = None
        if generator is None and self.shared_seed is not None:
            sizes = torch.Generator().manual_seed(self.shared_seed)
        ids = multiblock_ids(
            batch_size,
            self.backbone.grid_size,
            **self.blocks,
            generator=generator,
            size_generator=sizes,
        )
        return ids.to(device)

    def encode_context(self, inputs: Tensor, ids: Tensor) -> Tensor:
        """Features (B, C, D) of the patches ``ids`` (B, C), which see no others."""
        patches = self.backbone.patchify_own_grid(inputs)  # (B, N, D)
        patches = patches + self.backbone.patch_positions()
        return self.backbone.encode(gather_tokens(patches, ids))[-1]

    @torch.no_grad()
    def encode_target(self, inputs: Tensor) -> Tensor:
        """Features (B, N, D) of all patches, each normed without affine parameters."""
        encoder = self.target_encoder
        patches = encoder.patchify_own_grid(inputs) + encoder.patch_positions()
        features = encoder.encode(patches)[-1]
        return F.layer_norm(features, features.shape[-1:])

    def compare(
        self, predictions: Tensor, targets: Tensor, ids: BlockIds
    ) -> dict[str, Tensor]:
        """Smooth L1 between predictions and targets (B, T, K, D).

        All blocks are of one size, so that the mean over patches is one over blocks.
        """
        return dict(loss=F.smooth_l1_loss(predictions, targets))
