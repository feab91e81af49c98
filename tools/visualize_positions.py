"""Figure 3 of DropPos: ``visualize_positions.py CONFIG CHECKPOINT IMAGE [IMAGE ...]``.

One row per image, one column per γ: black patches are masked, white ones are put in
the wrong place, the others in the right one.
"""

import argparse
from itertools import product
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS

from mmpospretrain.engine.cli import load_config, load_model, readable_errors
from mmpospretrain.evaluation.position_table import MASK_RATIOS, reconstruct_cases
from mmpospretrain.models.selfsup.position_predictor import Reconstruction
from mmpospretrain.visualization import (
    as_rgb,
    find_images,
    load_sample,
    plot_reconstructions,
)


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
            images.append(as_rgb(sample))
        figure = plot_reconstructions(
            images, reconstructions, args.mask_ratios, model.backbone.patch_size
        )
        args.out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.out, dpi=150)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
