"""MP3: pre-training ViTs by predicting positions from content alone.

Zhai et al., ICML 2022. No patch is told where it is, and the model has to say where all
of them belong. Only some, the context, can be looked at; the others may look at those,
but neither at each other nor at themselves. No code of the authors is public.

    images ─ patchify ─ order by chance ─ encode, looking at the first M ─ where was it?

There are no position embeddings, so patches may stand in any order: with the context in
front, looking at it alone is a slice, and costs N × M instead of N × N. Appendix A of
the paper writes ``M = int(N * eta)``; its text, figures and costs say that η is masked.

Letters: B images, N patches of the grid, M of them context, K masked ones that are
asked where they belong, D embedding width.
"""

import math
from typing import NamedTuple

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from mmpospretrain.checks import check_ratio
from mmpospretrain.registry import MODELS

from ..losses.position_loss import position_accuracy
from ..positions import gather_tokens, num_kept, shuffle_ids
from .position_predictor import PositionPredictor, Reconstruction, build_backbone


class Split(NamedTuple):
    """Patches of every image in random order."""

    context: Tensor
    """(B, M) long: ids of the patches that all may look at."""
    masked: Tensor
    """(B, N - M) long: ids of the others, or of those K that are asked."""

    @property
    def ids(self) -> Tensor:
        """(B, M + K) long: the context, then the others."""
        return torch.cat(self, dim=1)

    @property
    def is_context(self) -> Tensor:
        """(B, M + K) bool, in the order of :attr:`ids`."""
        parts = (torch.ones_like(self.context), torch.zeros_like(self.masked))
        return torch.cat(parts, dim=1).bool()


@MODELS.register_module()
class MP3(PositionPredictor):
    """Predict the positions of all patches from what a part of them shows.

    Args:
        backbone: Config of a :class:`PositionViT` with ``positions='none'``.
        head: Config of a :class:`PositionHead` of ``depth=0``, the paper's linear head.
            It learns the grid and the width of the backbone from here.
        mask_ratio: η in [0, 1), the share of patches that nobody looks at (Sec. 3.2).
        query_ratio: Share of the masked patches that are asked where they belong, in
            (0, 1]. Nobody looks at them, so who is not asked costs nothing; those that
            are count for the others in the loss, which is the same on average. 1 is
            the paper's; less is ours.
        **kwargs: ``data_preprocessor`` and ``init_cfg``, as everywhere in MMPretrain.

    Raises:
        ValueError: If a ratio is out of range, the backbone does not fit or knows
            positions, or the head is not linear.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        mask_ratio: float = 0.75,
        query_ratio: float = 1.0,
        **kwargs,
    ) -> None:
        check_ratio('mask_ratio', mask_ratio)
        check_ratio('query_ratio', query_ratio, low_open=True, closed=True)
        backbone = build_backbone('MP3', backbone)
        if backbone.positions != 'none':
            raise ValueError(
                "MP3 needs a backbone with positions='none', got "
                f'{backbone.positions!r}: it is to find out where patches are'
            )
        head = {'depth': 0, **head}
        if head['depth']:
            raise ValueError(
                f'the head of MP3 has depth=0, got {head["depth"]}: in its blocks '
                'masked patches would be looked at'
            )
        super().__init__(backbone, head, **kwargs)
        self.mask_ratio = mask_ratio
        self.query_ratio = query_ratio

    def loss(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> dict[str, Tensor]:
        """One training step.

        Args:
            inputs: Normalised images (B, C, H, W) of the backbone's ``img_size``.
            data_samples: Not used: there are no labels.

        Returns:
            ``loss``, and for the log ``context_acc`` and ``masked_acc``, the position
            accuracy in percent over context and masked patches.
        """
        patches = self.backbone.patchify_own_grid(inputs)  # (B, N, D)
        split = self.draw_masks(len(inputs), device=inputs.device)
        split, share = self.ask(split)
        logits = self.locate(patches, split)  # (B, M + K, N)
        weight = torch.where(split.is_context, 1.0, 1 / share)
        loss = self.head.loss(logits, split.ids, weight)
        groups = dict(context_acc=split.is_context)
        if split.masked.shape[1]:
            groups['masked_acc'] = ~split.is_context
        accuracy = {
            name: position_accuracy(logits, split.ids, counted)
            for name, counted in groups.items()
        }
        return dict(loss=loss, **accuracy)

    def draw_masks(
        self,
        batch_size: int,
        mask_ratio: float | None = None,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> Split:
        """Choose the context (Sec. 3.2).

        Args:
            batch_size: B.
            mask_ratio: η, by default the model's.
            generator: Source of randomness, on ``device``.
            device: Where the ids live.
        """
        num = math.prod(self.backbone.grid_size)
        size = num_kept(num, self.mask_ratio if mask_ratio is None else mask_ratio)
        ids = shuffle_ids(batch_size, num, generator, device)
        return Split(ids[:, :size], ids[:, size:])

    def ask(self, split: Split) -> tuple[Split, float]:
        """Keep K of the masked patches, in random order already; and which share."""
        hidden = split.masked.shape[1]
        if not hidden:
            return split, 1.0
        asked = math.ceil(self.query_ratio * hidden)
        return split._replace(masked=split.masked[:, :asked]), asked / hidden

    def locate(self, patches: Tensor, split: Split) -> Tensor:
        """Logits (B, M + K, N) over places, of the ``patches`` (B, N, D) in a split."""
        tokens = gather_tokens(patches, split.ids)  # (B, M + K, D)
        size = split.context.shape[1]
        (features,) = self.backbone.encode(
            tokens, [self.backbone.num_layers - 1], num_context=size
        )
        return self.head(features)

    @torch.no_grad()
    def place(self, patches: Tensor, masks: Split) -> Reconstruction:
        """Put all of ``patches`` (B, N, D) in place."""
        predicted = self.locate(patches, masks).argmax(dim=-1)  # (B, N)
        context = masks.is_context
        return Reconstruction(masks.ids, torch.ones_like(context), context, predicted)
