"""ViTDet: the pre-trained ViT as a backbone for detection, by its attention alone.

Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022.

Letters: B images, R rows and C columns of patches, D embedding width, W windows of
M = window_size² tokens, H heads of width d.
"""

import torch
import torch.nn.functional as F
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

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
        out_indices: Layers whose maps are returned, (B, D, R, C) each.
        with_cp: As of `PositionViT`.
        **kwargs: Everything else of `PositionViT`.

    Raises:
        ValueError: If the layers do not form quarters, ``global_layers`` names one that
            there is not, or ``window_size`` is negative.
    """

    def __init__(
        self,
        *,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 1024,
        window_size: int = 14,
        global_layers: tuple[int, ...] | None = None,
        rel_pos: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            arch=arch,
            img_size=img_size,
            with_cls_token=False,
            out_type='featmap',
            **kwargs,
        )
        if window_size < 0:
            raise ValueError(f'window_size must be at least 0, got {window_size}')
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
        grid_size, mask = x.shape[1:3], None
        if self.window_size:
            x = to_windows(x, self.window_size)  # (B, W, M, D)
            mask = window_mask(grid_size, self.window_size, x.device)
        else:
            x = x.flatten(1, 2)[:, None]  # (B, 1, R * C, D)
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, W, H, M, d) each
        scale = q.shape[-1] ** -0.5
        if self.rel_pos_h is not None:
            grid = (self.window_size,) * 2 if self.window_size else grid_size
            q, k = self._add_rel_pos(q, k, scale, grid)
            scale = 1.0
        x = self._attend(q, k, v, mask, scale)  # (B, W, H, M, d)
        x = x.transpose(2, 3).flatten(3)  # (B, W, M, D)
        if self.window_size:
            x = from_windows(x, self.window_size, grid_size)
        else:
            x = x[:, 0].unflatten(1, grid_size)
        # Stochastic depth comes last: it drops images, not windows.
        return self.out_drop(self.gamma1(self.proj_drop(self.proj(x))))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        """Fused attention; its kernels want four dimensions and one width for all."""
        num_images, head_dims = v.shape[0], v.shape[-1]
        if q.shape[-1] > head_dims:
            v = F.pad(v, (0, q.shape[-1] - head_dims))
        out = F.scaled_dot_product_attention(
            *(t.flatten(0, 1) for t in (q, k, v)),
            attn_mask=None if mask is None else mask.repeat(num_images, 1, 1, 1),
            dropout_p=self.attn_drop if self.training else 0.0,
            scale=scale,
        )
        return out[..., :head_dims].unflatten(0, (num_images, -1))

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
        q_map = q.unflatten(-2, grid)  # (B, W, H, R, C, d)
        h = torch.einsum('...rcd,rkd->...rck', q_map, _offsets(self.rel_pos_h, rows))
        w = torch.einsum('...rcd,ckd->...rck', q_map, _offsets(self.rel_pos_w, cols))
        row = torch.eye(rows, dtype=k.dtype, device=k.device).repeat_interleave(cols, 0)
        col = torch.eye(cols, dtype=k.dtype, device=k.device).repeat(rows, 1)
        one_hot = torch.cat((row, col), dim=-1).expand(*k.shape[:-1], -1)
        q = torch.cat((scale * q, h.flatten(-3, -2), w.flatten(-3, -2)), dim=-1)
        return q, torch.cat((k, one_hot), dim=-1)  # (B, W, H, M, d + R + C) each


def _offsets(table: Tensor, size: int) -> Tensor:
    """Rows of a table (2 L - 1, d) by offset: ``[i, j]`` is that of i - j, (L, L, d).

    A table for another L is resampled, as in ViTDet.
    """
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], 2 * size - 1, mode='linear')[0].T
    steps = torch.arange(size, device=table.device)
    return table[steps[:, None] - steps + size - 1]


def to_windows(x: Tensor, window_size: int) -> Tensor:
    """Cut a map into windows, row-major; incomplete ones are filled with zeros.

    Args:
        x: (B, R, C, D).
        window_size: Side of the windows.

    Returns:
        (B, W, M, D), with the tokens of a window row-major too.
    """
    rows, cols = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -cols % window_size, 0, -rows % window_size))
    x = x.unflatten(1, (-1, window_size)).unflatten(3, (-1, window_size))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(windows: Tensor, window_size: int, grid_size: GridSize) -> Tensor:
    """Put the windows of `to_windows` together; (B, R, C, D), without the filling."""
    rows, cols = grid_size
    shape = (-1, -(-cols // window_size)), (window_size, window_size)
    x = windows.unflatten(1, shape[0]).unflatten(3, shape[1])
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :rows, :cols]


def window_mask(
    grid_size: GridSize, window_size: int, device: torch.device
) -> Tensor | None:
    """Which keys of a window are tokens and no filling: True, as PyTorch has it.

    Returns:
        (W, 1, 1, M), or None if all are.
    """
    if not any(side % window_size for side in grid_size):
        return None
    tokens = torch.ones(1, *grid_size, 1, dtype=torch.bool, device=device)
    return to_windows(tokens, window_size)[0, :, None, None, :, 0]
