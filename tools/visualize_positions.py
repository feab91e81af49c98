"""Figure 3 of DropPos: ``visualize_positions.py CONFIG CHECKPOINT IMAGE [IMAGE ...]``.

One row per image, one column per γ: black patches are masked, white ones are put in
the wrong place, the others in the right one.
"""

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS

from mmpospretrain.datasets import read_image
from mmpospretrain.datasets.image_source import EXTENSIONS
from mmpospretrain.engine.cli import load_config, load_model, readable_errors
from mmpospretrain.evaluation.position_table import MASK_RATIOS, reconstruct_cases
from mmpospretrain.models.selfsup.droppos import Reconstruction
from mmpospretrain.visualization import plot_reconstructions


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Show reconstructed positions.')
    parser.add_argument('config', help='config file of a DropPos model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'images', nargs='+', type=Path, metavar='IMAGE', help='image file or folder'
    )
    parser.add_argument('--out', type=Path, metavar='FILE', default='positions.png')
    parser.add_argument(
        '--num-images',
        type=int,
        metavar='N',
        default=8,
        help='at most so many (default: 8)',
    )
    parser.add_argument(
        '--mask-ratios',
        nargs='+',
        type=float,
        metavar='R',
        default=MASK_RATIOS,
        help='γ of the columns (default: 0 .25 .5 .75)',
    )
    parser.add_argument(
        '--pos-mask-ratio', type=float, metavar='R', default=0.95, help='γ_pos (.95)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE'
    )
    return parser.parse_args()


def find_images(sources: list[Path], limit: int) -> list[Path]:
    """Image files, and those in folders, in order.

    Raises:
        FileNotFoundError: If there is nothing at a source, or no image at all.
    """
    images = []
    for source in sources:
        if source.is_dir():
            files = sorted(source.rglob('*'))
            images += [file for file in files if file.suffix.lower() in EXTENSIONS]
        elif source.is_file():
            images.append(source)
        else:
            raise FileNotFoundError(f'there is no image or folder {str(source)!r}')
    if not images:
        raise FileNotFoundError(f'there is no image in {", ".join(map(str, sources))}')
    return images[:limit]


def load_sample(path: Path, pipeline: Callable[[dict], dict]) -> dict:
    """Read an image and run it through a pipeline.

    Raises:
        ValueError: If the file is no image.
    """
    try:
        image = read_image(str(path))
    except Exception as error:  # Pillow's plugins raise nearly anything
        raise ValueError(f'cannot read {path}: {error}') from error
    shape = image.shape[:2]
    return pipeline(dict(img=image, img_path=path, img_shape=shape, ori_shape=shape))


def main() -> None:
    """Draw."""
    args = parse_args()
    with readable_errors():
        cfg = load_config(args.config, args.cfg_options)
        paths = find_images(args.images, args.num_images)
        model = load_model(cfg, args.checkpoint)
        # Only its pipeline: the images of the config need not be there.
        dataset = DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True})

        cases = list(product(args.mask_ratios, [args.pos_mask_ratio]))
        generators = [torch.Generator().manual_seed(args.seed) for _ in cases]
        images, reconstructions = [], []
        for path in paths:
            sample = load_sample(path, dataset.pipeline)
            batch = model.data_preprocessor(default_collate([sample]))
            results = reconstruct_cases(model, batch['inputs'], cases, generators)
            reconstructions.append(
                [Reconstruction(*(x[0].cpu() for x in result)) for result in results]
            )
            rgb = sample['inputs'].flip(0)  # datasets read BGR
            images.append(np.ascontiguousarray(rgb.permute(1, 2, 0)))  # (H, W, 3)
        figure = plot_reconstructions(
            images, reconstructions, args.mask_ratios, model.backbone.patch_size
        )
        args.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.out, dpi=150)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
