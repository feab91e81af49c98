"""Images of any size and shape become images that can be cropped."""

from mmpretrain.datasets.transforms import ResizeEdge

from mmpospretrain.checks import check_at_least
from mmpospretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeShortEdge(ResizeEdge):
    """MMPretrain's ``ResizeEdge`` of the short edge, in bounded memory.

    Images whose short edge has that size already stay as they are, bit for bit. A strip
    whose long edge would be more than ``max_ratio`` times the short one is squashed to
    that: 1 x 30,000 pixels would otherwise become 256 x 7,680,000, or 6 GB.

    Args:
        scale (int): The short edge in pixels, at least 1.
        max_ratio (int): Long edge over short edge, at least 1. Defaults to 16.
        backend (str): Defaults to ``'pillow'``, which averages where it shrinks; OpenCV
            would leave pixels out.
        interpolation (str): Defaults to ``'bicubic'``.

    Raises:
        ValueError: If ``scale`` or ``max_ratio`` is below 1.
    """

    def __init__(
        self,
        scale: int,
        max_ratio: int = 16,
        backend: str = 'pillow',
        interpolation: str = 'bicubic',
    ) -> None:
        check_at_least('scale', scale, 1)
        check_at_least('max_ratio', max_ratio, 1)
        super().__init__(scale, backend=backend, interpolation=interpolation)
        self.max_ratio = max_ratio

    def _resize_img(self, results: dict) -> None:
        longest = self.max_ratio * self.scale
        results['scale'] = tuple(min(side, longest) for side in results['scale'])
        super()._resize_img(results)
