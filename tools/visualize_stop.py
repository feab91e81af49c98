"""Figures 5 and 6 of StoP: ``visualize_stop.py CONFIG CHECKPOINT IMAGE [IMAGE ...]``.

``positions.png``: how much the position that the predictor is given for a patch is like
the positions of all patches. ``predictions.png``: the features that it predicts for a
hidden patch, compared to those of all patches of the image. For I-JEPA too.
"""

import argparse
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Show what StoP or I-JEPA predicts.')
    parser.add_argument('config', help='config file of an I-JEPA or StoP model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'images', nargs='+', type=Path, metavar='IMAGE', help='image file or folder'
    )
    parser.add_argument(
        '--out-dir',
        dest='out',
        type=Path,
        metavar='DIR',
        help='where pictures go; by default the folder of the checkpoint',
    )
    parser.add_argument(
        '--num-images', type=int, metavar='N', default=6, help='at most so many (6)'
    )
    parser.add_argument(
        '--places',
        nargs='+',
        type=int,
        metavar='ID',
        help='patches whose positions are compared, row * columns + column; by '
        'default one in each quarter',
    )
    parser.add_argument('--seed', type=int, default=0, help='of masks and noise')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE'
    )
    return parser.parse_args()


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import torch
from mmengine.dataset import Compose, default_collate

from mmpospretrain.engine.cli import (
    load_config,
    load_model,
    read_options,
    results_folder,
)
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.models import IJEPA
from mmpospretrain.visualization import (
    as_rgb,
    find_images,
    load_sample,
    plot_position_similarity,
    plot_predicted_tokens,
    predict_token,
)


def choose_places(model: IJEPA, places: list[int] | None) -> list[int]:
    """Patch ids, by default the middle of every quarter.

    Raises:
        ValueError: If there is no such patch.
    """
    rows, cols = model.backbone.grid_size
    for place in places or []:
        if not 0 <= place < rows * cols:
            raise ValueError(
                f'--places: the grid of {rows}x{cols} has patches 0 to '
                f'{rows * cols - 1}, got {place}'
            )
    return places or [
        row * cols + col
        for row in (rows // 4, 3 * rows // 4)
        for col in (cols // 4, 3 * cols // 4)
    ]


def main(args: argparse.Namespace) -> None:
    """Draw."""
    with readable_errors():
        cfg = load_config(args.config, read_options(args.cfg_options))
        paths = find_images(args.images, args.num_images)
        model = load_model(cfg, args.checkpoint)
        if not isinstance(model, IJEPA):
            raise ValueError(
                f'{args.config} is a config of {type(model).__name__}, '
                'these pictures are for IJEPA and StoP'
            )
        places = choose_places(model, args.places)
        out = results_folder(args.out, args.checkpoint)

        torch.manual_seed(args.seed)
        figure = plot_position_similarity(model, places, model.backbone.grid_size)
        figure.savefig(out / 'positions.png', dpi=150)
        generator = torch.Generator().manual_seed(args.seed)
        tokens = []
        for path in paths:
            sample = load_sample(path, Compose(cfg.val_pipeline))
            inputs = model.data_preprocessor(default_collate([sample]))['inputs']
            tokens.append(predict_token(model, inputs, as_rgb(sample), generator))
        figure = plot_predicted_tokens(tokens, model.backbone.patch_size)
        figure.savefig(out / 'predictions.png', dpi=150)
        print(f'wrote {out}/positions.png and {out}/predictions.png')


if __name__ == '__main__':
    main(args)
