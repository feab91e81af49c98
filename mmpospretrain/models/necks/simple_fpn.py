"""SimpleFPN: four scales from the last map of a plain backbone.

Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022,
Sec. 3 and A.2.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import MODELS


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """Maps at strides 4, 8, 16, 32 from one at stride 16, and coarser ones by pooling.

    Each map is resampled from the same one, by transposed convolutions or pooling, and
    has a 1 × 1 and a 3 × 3 convolution of its own, both with layer norm.

    Args:
        in_channels: Width of the backbone's map, divisible by 4.
        out_channels: Width of all maps.
        num_outs: Maps in all, at least 4. Those beyond the fourth are subsampled from
            the one before, as in `mmdet`'s FPN.
        init_cfg: As everywhere in MMEngine.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if in_channels % 4:
            raise ValueError(f'in_channels must be divisible by 4, got {in_channels}')
        check_at_least('num_outs', num_outs, 4)
        half, quarter = in_channels // 2, in_channels // 4
        self.num_outs = num_outs
        resample = {
            'p2': [
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                LayerNorm2d(half),
                nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, stride=2),
            ],
            'p3': [nn.ConvTranspose2d(in_channels, half, 2, stride=2)],
            'p4': [],
            'p5': [nn.MaxPool2d(2)],
        }
        widths = (quarter, half, in_channels, in_channels)
        self.levels = nn.ModuleDict(
            {
                name: nn.Sequential(
                    *layers,
                    nn.Conv2d(width, out_channels, 1, bias=False),
                    LayerNorm2d(out_channels),
                    nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                    LayerNorm2d(out_channels),
                )
                for (name, layers), width in zip(resample.items(), widths, strict=True)
            }
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: Maps of the backbone; the last one counts, (B, C, H, W).

        Returns:
            ``num_outs`` maps, the finest first: (B, out_channels, 4 H, 4 W), …
        """
        maps = [level(inputs[-1]) for level in self.levels.values()]
        while len(maps) < self.num_outs:
            maps.append(F.max_pool2d(maps[-1], 1, stride=2))
        return tuple(maps)
