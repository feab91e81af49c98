"""Positions as a bias of attention: what the offset between two patches is worth.

Letters: R rows and C columns of patches, N = R · C, P prefix tokens, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .grid import GridSize


class RelativePositionBias(nn.Module):
    """A learned number for each offset and head, zero at first.

    As in BEiT, and in the fine-tuning of MP3 (Sec. 4.2.3). [CLS] and registers have no
    place: looking from them, at them, and among them is worth one number each.

    MMPretrain's module of this name knows one grid, and does not run without [CLS].

    Args:
        grid_size: ``(rows, cols)`` of the patches.
        num_heads: H.
        num_prefix_tokens: P.
    """

    def __init__(
        self, grid_size: GridSize, num_heads: int, num_prefix_tokens: int = 1
    ) -> None:
        super().__init__()
        rows, cols = grid_size
        self.grid_size = tuple(grid_size)
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * rows - 1, 2 * cols - 1))
        self.num_prefix_tokens = num_prefix_tokens
        self.prefix = None
        if num_prefix_tokens:
            self.prefix = nn.Parameter(torch.zeros(num_heads, 3))

    def forward(self, grid_size: GridSize | None = None) -> Tensor:
        """What is added to the logits of query i and key j: (1, H, P + N, P + N).

        Args:
            grid_size: Of the patches at hand, in row-major order; the table is resized
                if that is not its own.
        """
        table, grid_size = self.table, tuple(grid_size or self.grid_size)
        if grid_size != self.grid_size:
            size = [2 * side - 1 for side in grid_size]
            table = F.interpolate(table[None], size, mode='bicubic')[0]
        rows, cols = grid_size
        ids = torch.arange(rows * cols, device=table.device)
        row, col = ids // cols, ids % cols
        drow = row[:, None] - row + rows - 1  # (N, N), query - key, from 0
        dcol = col[:, None] - col + cols - 1
        bias = table[:, drow, dcol]  # (H, N, N)
        if self.prefix is not None:
            away, towards, own = self.prefix[..., None, None].unbind(1)  # (H, 1, 1)
            num = self.num_prefix_tokens
            left = towards.expand(-1, len(ids), num)
            top = (own.expand(-1, num, num), away.expand(-1, num, len(ids)))
            top = torch.cat(top, dim=2)
            bias = torch.cat((top, torch.cat((left, bias), dim=2)), dim=1)
        return bias[None]
