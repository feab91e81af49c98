"""ViTDet: the pre-trained ViT as a backbone for detection, by its attention alone.

Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022.

Letters: B images, R rows and C columns of patches, D embedding width, W windows of
M = window_size² tokens, H heads of width d.
"""

import torch
import torch.nn.functional as F
from mmpretrain.models.backbones.vit_sam import (
    get_rel_pos,
    window_partition,
    window_unpartition,
)
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import MODELS

from ..positions import GridSize
from .position_vit import PositionViT


@MODELS.register_module()
class ViTDet(PositionViT):
    """`PositionViT` without [CLS], for images of any size, with attention in windows.

    A checkpoint of a pre-training loads key for key; [CLS] stays behind. Images are
    padded on the right and at the bottom to whole patches, and the map to whole
    windows; no token attends to the padding of a window.

    Args:
        arch: As of `PositionViT`.
        img_size: Of the images that are most common; the position embedding has its
            grid, and is resampled for others.
        window_size: Side of the windows in patches; 0 is global attention everywhere.
        global_layers: Indices of layers with global attention. By default the last one
            of each quarter, as in the paper.
        rel_pos: Whether layers add decomposed relative positions to their attention
            (MViTv2, Eq. 4), as the paper does. They start at zero.
        positions: As of `PositionViT`, but ``'relative'`` is ``rel_pos`` and no
            embeddings: a bias for each pair of patches would not fit at this size.
        out_indices: Layers whose maps are returned, (B, D, R, C) each.
        with_cp: As of `PositionViT`.
        **kwargs: Everything else of `PositionViT`.

    Raises:
        ValueError: If the layers do not form quarters, ``global_layers`` names one that
            there is not, ``window_size`` is negative, or there are registers, which
            have no place in a map.
    """

    def __init__(
        self,
        *,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 1024,
        window_size: int = 14,
        global_layers: tuple[int, ...] | None = None,
        rel_pos: bool = False,
        positions: str = 'sincos',
        num_registers: int = 0,
        **kwargs,
    ) -> None:
        if num_registers:
            raise ValueError(
                f"ViTDet's tokens are a map, which has no place for {num_registers} "
                'registers: take weights that were trained without'
            )
        super().__init__(
            arch=arch,
            img_size=img_size,
            with_cls_token=False,
            out_type='featmap',
            positions='none' if positions == 'relative' else positions,
            **kwargs,
        )
        rel_pos = rel_pos or positions == 'relative'
        check_at_least('window_size', window_size, 0)
        if global_layers is None:
            if window_size and self.num_layers % 4:
                raise ValueError(
                    f'{self.num_layers} layers do not form quarters: name those with '
                    'global attention in global_layers'
                )
            quarter = max(self.num_layers // 4, 1)
            global_layers = tuple(range(quarter - 1, self.num_layers, quarter))
        if not set(global_layers) <= set(range(self.num_layers)):
            raise ValueError(
                f'global_layers must lie in [0, {self.num_layers - 1}], '
                f'got {global_layers}'
            )
        for index, layer in enumerate(self.layers):
            window = 0 if index in global_layers else window_size
            grid = (window, window) if window else self.grid_size
            layer.attn = GridAttention(layer.attn, window, grid if rel_pos else None)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of images (B, 3, any height, any width)."""
        height, width = images.shape[-2:]
        images = F.pad(
            images, (0, -width % self.patch_size, 0, -height % self.patch_size)
        )
        patches, grid_size = self.patchify(images)
        tokens = patches + self.patch_positions(grid_size)  # (B, R * C, D)
        # Norms and MLPs take the tokens in any shape, attention as a map.
        outputs = self.encode(tokens.unflatten(1, grid_size))  # (B, R, C, D)
        return tuple(x.permute(0, 3, 1, 2).contiguous() for x in outputs)


class GridAttention(nn.Module):
    """Attention over a map of tokens, within windows if asked; always fused.

    Args:
        attention: Gives its parts: their names, and so the keys, stay.
        window_size: Side of the windows, 0 for one window over the whole map.
        rel_pos_grid: Grid of the tables of relative positions, None for no tables.
    """

    def __init__(
        self,
        attention: MultiheadAttention,
        window_size: int = 0,
        rel_pos_grid: GridSize | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.attn_drop = attention.attn_drop
        self.qkv = attention.qkv
        self.proj = attention.proj
        self.proj_drop = attention.proj_drop
        self.gamma1 = attention.gamma1
        self.out_drop = attention.out_drop
        self.window_size = window_size
        self.rel_pos_h = self.rel_pos_w = None
        if rel_pos_grid:
            rows, cols = rel_pos_grid
            head_dims = attention.head_dims
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * rows - 1, head_dims))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * cols - 1, head_dims))

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Args:
            x: (B, R, C, D).

        Returns:
            (B, R, C, D).
        """
        shape, windows, mask = x.shape, x, None
        if self.window_size:
            windows, padded = window_partition(x, self.window_size)
            mask = window_mask(shape[1:3], self.window_size, x.device)
            mask = None if mask is None else mask.repeat(shape[0], 1, 1, 1)
        grid = windows.shape[1:3]  # of a window; M = R * C if there is but one
        qkv = self.qkv(windows.flatten(1, 2)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B * W, H, M, d) each
        head_dims = v.shape[-1]
        scale = head_dims**-0.5
        if self.rel_pos_h is not None:
            q, k = self._add_rel_pos(q, k, scale, grid)
            scale = 1.0
            v = F.pad(v, (0, q.shape[-1] - head_dims))  # fused kernels want one width
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.attn_drop if self.training else 0.0,
            scale=scale,
        )[..., :head_dims]
        x = out.transpose(1, 2).flatten(2).unflatten(1, grid)
        if self.window_size:
            x = window_unpartition(x, self.window_size, padded, shape[1:3])
        # Stochastic depth comes last: it drops images, not windows.
        return self.out_drop(self.gamma1(self.proj_drop(self.proj(x))))

    def _add_rel_pos(
        self, q: Tensor, k: Tensor, scale: float, grid: GridSize
    ) -> tuple[Tensor, Tensor]:
        """Widen queries and keys so that their products hold relative positions.

        The logit of query i and key j is to be ``scale q_i·k_j + h[i, row of j] +
        w[i, column of j]``, with ``h[i, r] = q_i·R_h[row of i - r]`` and w alike. That
        is one product of (scale q_i, h_i, w_i) and (k_j, one-hot row, one-hot column),
        and no map of all logits has to be made for it.
        """
        rows, cols = grid
        q_map = q.unflatten(-2, grid)  # (B * W, H, R, C, d)
        h = torch.einsum(
            '...rcd,rkd->...rck', q_map, get_rel_pos(rows, rows, self.rel_pos_h)
        )
        w = torch.einsum(
            '...rcd,ckd->...rck', q_map, get_rel_pos(cols, cols, self.rel_pos_w)
        )
        row = torch.eye(rows, dtype=k.dtype, device=k.device).repeat_interleave(cols, 0)
        col = torch.eye(cols, dtype=k.dtype, device=k.device).repeat(rows, 1)
        one_hot = torch.cat((row, col), dim=-1).expand(*k.shape[:-1], -1)
        q = torch.cat((scale * q, h.flatten(-3, -2), w.flatten(-3, -2)), dim=-1)
        return q, torch.cat((k, one_hot), dim=-1)  # (…, d + R + C) each


def window_mask(
    grid_size: GridSize, window_size: int, device: torch.device
) -> Tensor | None:
    """Which keys of a window are tokens and no padding: True, as PyTorch has it.

    Returns:
        (W, 1, 1, M), or None if all are.
    """
    if not any(side % window_size for side in grid_size):
        return None
    tokens = torch.ones(1, *grid_size, 1, dtype=torch.bool, device=device)
    return window_partition(tokens, window_size)[0].flatten(1)[:, None, None]
