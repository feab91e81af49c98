"""Script of test_teacher.py: train I-JEPA with the same blocks in every process.

``python fixed_blocks.py CONFIG OUT``, also under torchrun. Rank 0 writes the mean loss
of every iteration and the final weights.
"""

import torch
from fixed_masks import run

from mmpospretrain.models import IJEPA
from mmpospretrain.registry import MODELS


@MODELS.register_module()
class FixedBlocks(IJEPA):
    """I-JEPA whose context and targets are the same in all images."""

    def draw_masks(self, batch_size, generator=None, device=None):
        ids = super().draw_masks(1, torch.Generator().manual_seed(0))
        return ids._replace(
            context=ids.context.expand(batch_size, -1),
            targets=ids.targets.expand(batch_size, -1, -1),
        )


if __name__ == '__main__':
    torch.set_num_threads(1)
    run('mmpospretrain.FixedBlocks')
