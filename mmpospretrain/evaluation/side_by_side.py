"""Several checkpoints side by side, as a command line names them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mmpretrain.models import VisionTransformer
from torch import Tensor, nn

from mmpospretrain.engine.cli import load_config
from mmpospretrain.models.positions import to_grid_size
from mmpospretrain.progress import track

from .attention import check_plain, patch_size_of
from .encoders import build_backbone, build_preprocessor, load_frozen

MOST_BYTES = 8 * 2**30  # of a map; what is measured of it takes some three times more


class Viewed(NamedTuple):
    """A checkpoint of a ViT, and how its config prepares images."""

    name: str
    config: str
    checkpoint: str
    backbone: VisionTransformer
    preprocessor: nn.Module
    pipeline: list[dict] | None

    def normalised(self, batches: Iterable[dict], what: str) -> Iterator[Tensor]:
        """Images (B, C, H, W), with a progress bar.

        Args:
            batches: Of known length, as ``default_collate`` makes them.
            what: Title of the bar, after the name.
        """
        for batch in track(batches, f'{self.name}: {what}'):
            yield self.preprocessor(batch)['inputs']

    def check_size(self, size: int, batch_size: int) -> None:
        """Check that square images can be shown, before any is measured.

        Args:
            size: Their side in pixels.
            batch_size: How many at once.

        Raises:
            ValueError: If patches do not divide them, or there are too many.
        """
        patch_size = patch_size_of(self.backbone)
        rows, cols = to_grid_size(size, patch_size)
        heads = self.backbone.arch_settings['num_heads']
        needed = 4 * batch_size * heads * (rows * cols) ** 2
        if needed > MOST_BYTES:
            raise ValueError(
                f'{self.name}: with patches of {patch_size} pixels, {batch_size} of '
                f'{size}x{size} at once have maps of {needed / 2**30:.0f} GiB a layer; '
                'lower --image-size or --batch-size'
            )


def pair_up(arguments: list[str]) -> list[tuple[str, str]]:
    """Every checkpoint with the config that stands before it.

    Raises:
        ValueError: If there is no config in front, or no checkpoint behind one.
    """
    groups: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.endswith('.py') or '::' in argument:
            groups.append((argument, []))
        elif groups:
            groups[-1][1].append(argument)
        else:
            raise ValueError(f'{argument} needs a config before it, which ends in .py')
    for config, checkpoints in groups:
        if not checkpoints:
            raise ValueError(f'{config} needs a checkpoint after it')
    return [(config, path) for config, paths in groups for path in paths]


def choose_names(checkpoints: list[str], names: list[str] | None) -> list[str]:
    """Those given, or folder and file of each checkpoint.

    Raises:
        ValueError: If they are too few or too many, or two are the same.
    """
    names = names or [
        f'{Path(c).resolve().parent.name}/{Path(c).stem}' for c in checkpoints
    ]
    if len(set(names)) < len(names) or len(names) != len(checkpoints):
        raise ValueError(
            f'{len(checkpoints)} checkpoints need as many different --names, got '
            f'{", ".join(names)}'
        )
    return names


def load_viewed(
    name: str, config: str, checkpoint: str, options: dict | None = None
) -> Viewed:
    """A checkpoint, ready to be measured, of any format that `load_frozen` takes.

    Raises:
        FileNotFoundError: If config or checkpoint are not there.
        ValueError: If the checkpoint does not fit the backbone, or that is no plain
            ViT.
    """
    cfg = load_config(config, options)
    backbone = build_backbone(cfg, checkpoint)
    if not isinstance(backbone, VisionTransformer):
        raise ValueError(
            f'{config} is a config of a {type(backbone).__name__}, and attention is '
            'shown of a ViT'
        )
    check_plain(backbone)
    load_frozen(backbone, cfg, checkpoint)
    pipeline = cfg.get('val_pipeline') or cfg.get('test_pipeline')
    return Viewed(name, config, checkpoint, backbone, build_preprocessor(cfg), pipeline)
