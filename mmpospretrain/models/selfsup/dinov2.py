"""DINOv2: a student says of crops and of masked patches what its teacher says.

Oquab et al., TMLR 2024, as PosField pre-trains it on ImageNet; it joins DINO (Caron et
al., ICCV 2021), iBOT (Zhou et al., ICLR 2022) and KoLeo. Global crops go to teacher and
student, some of the student's with masked patches; local crops go to the student alone.

    global ─ teacher ┬ [CLS] ── prototypes ┐        ┌ prototypes ── [CLS] ┬ student
                     │                     ├─ DINO ─┤                     │
                     └ masked ─ prototypes ┼─ iBOT ─┼ prototypes ─ masked ┘

The teacher gets no gradient; it follows the student (``TeacherHook``).

Letters: B images, V views of one size, N patches of a view, D embedding width, n masked
patches, K prototypes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.model import ModuleDict
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmpospretrain.checks import check_at_least, check_choice, check_ratio
from mmpospretrain.registry import MODELS

from ..backbones.position_vit import PositionViT
from ..device import send
from ..losses.distillation import DINOLoss, IBOTLoss, KoLeoLoss, TeacherTargets
from ..positions import GridSize, box_mask, to_grid_size
from .teacher_student import TeacherStudent


class Masking(NamedTuple):
    """A kind of masking: which share of the views has it, and in which shape."""

    share: float
    shape: Callable[[Tensor, GridSize, torch.Generator | None], Tensor]


def target_statistics(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Do targets still say anything? Both numbers are shares of log K.

    Args:
        targets: (n, K), rows sum to 1.

    Returns:
        Their mean entropy, and the mean KL divergence from their mean: how much a
        target tells of its image. The latter is 0 when all targets are the same, be it
        one prototype or all of them: both ways of collapse.
    """
    uncertain = torch.special.entr(targets).sum(dim=1).mean()
    together = torch.special.entr(targets.mean(dim=0)).sum()
    most = math.log(targets.shape[1])
    return uncertain / most, (together - uncertain) / most


def feature_rank(features: Tensor) -> Tensor:
    """How many directions features spread in: (n, D) to a number from 1 to D.

    The participation ratio (Σλ)² / Σλ² of the eigenvalues of their covariance, which
    needs no eigenvalues; 0 if all features are the same.
    """
    features = features.float()
    features = features - features.mean(dim=0)
    with torch.autocast(features.device.type, enabled=False):
        gram = features @ features.T  # n times the eigenvalues of the covariance
    return gram.trace().square() / gram.square().sum().clamp(min=1e-12)


@MODELS.register_module()
class DINOv2(TeacherStudent):
    """Self-distillation of crops and masked patches (Eq. 3 of PosField).

    Args:
        backbone: Config of a :class:`PositionViT` with a [CLS] token.
        head: Config of a :class:`PrototypeHead`, of which there is one for [CLS] and
            one for patches; it learns the width of the backbone from here.
        num_global_views: Views of an image that the teacher sees: the first.
        content_share: Share of the global views whose patches are masked.
        mask_ratio: Range of ρ, the share of masked patches in such a view.
        masking_unit: What draws whether and how it is masked: each ``'view'``, as in
            the released code, or each ``'image'``, for all of its global views.
        targets: Options of :class:`TeacherTargets`; ``method`` is ``'sinkhorn'`` or
            ``'centering'``.
        student_temperature: Of the student.
        koleo_weight: Of KoLeo, which is summed over the global views as in the released
            code.
        **kwargs: ``data_preprocessor`` and ``init_cfg``, as everywhere in MMPretrain.

    Raises:
        ValueError: If the backbone has no [CLS] token, or a number is out of range.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        num_global_views: int = 2,
        content_share: float = 0.5,
        mask_ratio: tuple[float, float] = (0.1, 0.5),
        masking_unit: str = 'view',
        targets: dict | None = None,
        student_temperature: float = 0.1,
        koleo_weight: float = 1.0,
        **kwargs,
    ) -> None:
        check_at_least('num_global_views', num_global_views, 1)
        check_ratio('content_share', content_share, closed=True)
        for ratio in mask_ratio:
            check_ratio('mask_ratio', ratio, closed=True)
        if mask_ratio[0] > mask_ratio[1]:
            raise ValueError(f'mask_ratio goes from least to most, got {mask_ratio}')
        check_choice('masking_unit', masking_unit, ('view', 'image'))
        check_at_least('koleo_weight', koleo_weight, 0)
        backbone = MODELS.build(backbone)
        if backbone.cls_token is None:
            raise ValueError(
                f'{type(self).__name__} needs a backbone with with_cls_token=True: '
                'views are compared by their [CLS]'
            )
        super().__init__(backbone=backbone, **kwargs)
        self.num_global_views = num_global_views
        self.mask_ratio = mask_ratio
        self.masking_unit = masking_unit
        self.dino_loss = DINOLoss(student_temperature)
        self.ibot_loss = IBOTLoss(student_temperature)
        self.koleo_loss = KoLeoLoss(koleo_weight)
        self.maskings = dict(content=Masking(content_share, box_mask))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, backbone.embed_dims))
        # MMEngine's, which initialises what it holds.
        self.heads, self.targets = ModuleDict(), nn.ModuleDict()
        self._head, self._targets = head, targets or {}
        for name in ('cls', 'content'):
            self.add_head(name)
        self.add_teacher(target_encoder='backbone', target_heads='heads')

    def add_head(self, name: str) -> None:
        """A head of its own, and the targets that it is compared with."""
        head = MODELS.build({**self._head, 'in_channels': self.backbone.embed_dims})
        self.heads[name] = head
        num_prototypes = head.prototypes.out_features
        self.targets[name] = TeacherTargets(num_prototypes, **self._targets)

    def init_weights(self) -> None:
        """Initialise all parts, then the mask token (normal, std .02)."""
        super().init_weights()
        nn.init.normal_(self.mask_token, std=0.02)

    def loss(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample]
    ) -> dict[str, Tensor]:
        """One training step.

        Args:
            inputs: Of each size of views (V·B, C, H, W), all first views first, the
                global ones in the first item: see ``collate_views``.
            data_samples: Of B images.

        Returns:
            ``loss_image``, ``loss_content``, ``loss_koleo``; and for the log what
            :func:`target_statistics` says of [CLS], ``target_entropy`` and
            ``target_kl``, the KL divergence from teacher to student, ``student_kl``,
            and ``feature_rank`` of the teacher's [CLS].
        """
        self._check_views(inputs, data_samples)
        places = self.locate(inputs, data_samples)
        taught = self.teach(inputs[0], places[0])  # (V·B, 1 + N, D)
        # On the CPU, while a GPU has the teacher to run.
        grid_size = to_grid_size(tuple(inputs[0].shape[-2:]), self.backbone.patch_size)
        self.backbone.check_grid(grid_size)
        masks = self.draw_masks(len(inputs[0]), grid_size)
        learnt = self.encode(self.backbone, inputs[0], places[0], masks)
        others = (
            self.encode(self.backbone, *views)[:, 0]
            for views in zip(inputs[1:], places[1:], strict=True)
        )
        cls = torch.cat((learnt[:, 0], *others))  # (all V·B, D)
        losses = self.compare_views(taught[:, 0], cls, len(data_samples))
        for kind, mask in masks.items():
            losses[f'loss_{kind}'] = self.compare_patches(kind, taught, learnt, mask)
        return losses

    def _check_views(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample]
    ) -> None:
        """Raise a ValueError unless the first item holds the global views alone."""
        images = len(data_samples)
        counts = [len(views) / images for views in inputs]
        if counts[0] != self.num_global_views:
            raise ValueError(
                f'num_global_views is {self.num_global_views}, but by their sizes an '
                f'image has {counts} views: MultiCrop makes the global ones first, and '
                'local ones need another size'
            )

    def locate(
        self, inputs: Sequence[Tensor], data_samples: list[DataSample]
    ) -> list[Any]:
        """Of each size of views, what :meth:`positions` has to know: nothing."""
        return [None] * len(inputs)

    def positions(
        self, backbone: PositionViT, grid_size: GridSize, place: Any
    ) -> Tensor:
        """Positions of the patches of views, (1, N, D) or (V·B, N, D)."""
        return backbone.patch_positions(grid_size)

    def draw_masks(
        self,
        num_views: int,
        grid_size: GridSize,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Choose what the student does not see of global views.

        Every masked view has exactly ρN patches masked, rounded, ρ ~ U(mask_ratio), and
        each kind of masking has its share of the views: no view has two of them, nor
        has an image, if images draw. The ρ of one kind are spread evenly, as in the
        released code, so that every step masks nearly as many patches, and takes as
        much memory and time.

        Args:
            num_views: V·B.
            grid_size: ``(rows, cols)`` of the views.
            generator: Source of randomness, on the CPU.

        Returns:
            For each kind a mask (V·B, N) bool, on the CPU; True = masked.
        """
        low, high = self.mask_ratio
        alike = self.num_global_views if self.masking_unit == 'image' else 1
        assert num_views % alike == 0
        units = num_views // alike
        # The same offset for all: shares that units do not divide by are right on
        # average.
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        turn = (torch.randperm(units, generator=generator) + offset) / units
        turn = turn.repeat(alike)  # all first views come first
        masks, start = {}, 0.0
        for kind, (share, shape) in self.maskings.items():
            chosen = (turn >= start) & (turn < start + share)
            ratios = low + (high - low) * (turn[chosen] - start) / share
            counts = (ratios * math.prod(grid_size)).round().long()
            masks[kind] = torch.zeros(num_views, math.prod(grid_size), dtype=torch.bool)
            masks[kind][chosen] = shape(counts, grid_size, generator)
            start += share
        return masks

    @torch.no_grad()
    def teach(self, images: Tensor, place: Any) -> Tensor:
        """What the teacher makes of views, nothing masked: (V·B, 1 + N, D)."""
        return self.encode(self.target_encoder, images, place)

    def encode(
        self,
        backbone: PositionViT,
        images: Tensor,
        place: Any,
        masks: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Features of views.

        Args:
            backbone: The student's or the teacher's.
            images: (V·B, C, H, W).
            place: Of :meth:`locate`.
            masks: Of :meth:`draw_masks`, or None for none.

        Returns:
            (V·B, 1 + N, D), [CLS] first.
        """
        patches, grid_size = backbone.patchify(images)  # (V·B, N, D)
        positions = self.positions(backbone, grid_size, place)
        if masks is not None:
            patches, positions = self.hide(patches, positions, masks)
        return backbone.encode(patches + positions, grid_size=grid_size)[-1]

    def hide(
        self, patches: Tensor, positions: Tensor, masks: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Replace masked patches by the mask token; positions stay (Eq. 2)."""
        mask = send(masks['content'], patches.device)[..., None]
        return torch.where(mask, self.mask_token, patches), positions

    def compare_views(
        self, taught: Tensor, learnt: Tensor, num_images: int
    ) -> dict[str, Tensor]:
        """L_image and KoLeo, and what the log should show.

        Args:
            taught: (T·B, D), [CLS] of the teacher.
            learnt: (S·B, D), [CLS] of the student, the same views first.
            num_images: B.
        """
        with torch.no_grad():
            targets = self.targets['cls'](*self.target_heads['cls'](taught)).dense()
            entropy, kl = target_statistics(targets)
            rank = feature_rank(taught)
        answers, prototypes = self.heads['cls'](learnt)
        loss = self.dino_loss(
            answers.unflatten(0, (-1, num_images)),
            prototypes,
            targets.unflatten(0, (-1, num_images)),
        )
        views = learnt[: len(taught)].unflatten(0, (-1, num_images))
        return dict(
            loss_image=loss,
            loss_koleo=sum(map(self.koleo_loss, views)),
            target_entropy=entropy,
            target_kl=kl,
            student_kl=loss.detach() - entropy * math.log(targets.shape[1]),
            feature_rank=rank,
        )

    def compare_patches(
        self, kind: str, taught: Tensor, learnt: Tensor, mask: Tensor
    ) -> Tensor:
        """Loss of the masked patches, which alone go through the head of their kind.

        Args:
            kind: Of masking; the head has the same name.
            taught: (V·B, 1 + N, D) of the teacher.
            learnt: (V·B, 1 + N, D) of the student.
            mask: (V·B, N) bool, on the CPU.
        """
        # As in the released code, a mean over all views, of which some have none.
        weight = 1 / (mask.sum(dim=1, keepdim=True).clamp(min=1) * len(mask))
        weight = send(weight.expand(mask.shape)[mask], learnt.device)  # (n,)
        view, patch = send(mask.nonzero(), learnt.device).T
        with torch.no_grad():
            answers, prototypes = self.target_heads[kind](taught[view, patch + 1])
            targets = self.targets[kind](answers, prototypes)
        answers, prototypes = self.heads[kind](learnt[view, patch + 1])
        return self.ibot_loss(answers, prototypes, targets, weight)
