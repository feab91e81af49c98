"""Where patches go: ``visualize_positions.py CONFIG CHECKPOINT IMAGE [IMAGE ...]``.

Of DropPos, its Figure 3. One row per image, one column per γ: black patches are masked,
white ones are put in the wrong place, the others in the right one.

Of MP3, its Figure 2. A block per image, one column per η: the context in place; the
patches as the model gets them, context in green; and all of them where it puts them,
averaged where several go to one place. With two images and ``--mix``, its Figure 14:
their patches are shuffled together and put in place as two images anew.

Written to ``puzzle.png``, or ``mix.png``, beside the checkpoint.
"""

import argparse
from math import prod
from pathlib import Path


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Show reconstructed positions.')
    parser.add_argument('config', help='config file of a DropPos or MP3 model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        'images', nargs='+', type=Path, metavar='IMAGE', help='image file or folder'
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='by default puzzle.png, with --mix mix.png, beside the checkpoint',
    )
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
        default=(0.0, 0.25, 0.5, 0.75),
        help='γ of DropPos or η of MP3 (default: 0 .25 .5 .75)',
    )
    parser.add_argument(
        '--pos-mask-ratio',
        type=float,
        metavar='R',
        help='γ_pos of DropPos (default: .95)',
    )
    parser.add_argument(
        '--mix', action='store_true', help='shuffle two images together (MP3)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE'
    )
    return parser.parse_args()


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS
from torch import Tensor, nn

from mmpospretrain.checks import check_ratio
from mmpospretrain.engine.cli import load_config, load_model, read_options
from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.evaluation.position_table import (
    place_cases,
    reconstruct_cases,
)
from mmpospretrain.models import MP3
from mmpospretrain.models.positions import shuffle_ids
from mmpospretrain.models.selfsup.position_predictor import Reconstruction
from mmpospretrain.visualization import (
    as_rgb,
    cut_patches,
    find_images,
    load_sample,
    mix_patches,
    plot_jigsaws,
    plot_mix,
    plot_reconstructions,
)


def draw(model: nn.Module, samples: list[dict], args: argparse.Namespace) -> Figure:
    """What becomes of the patches of each image."""
    is_mp3 = isinstance(model, MP3)
    dropped = 0.95 if args.pos_mask_ratio is None else args.pos_mask_ratio
    cases = [(ratio,) if is_mp3 else (ratio, dropped) for ratio in args.mask_ratios]
    generators = [torch.Generator().manual_seed(args.seed) for _ in cases]
    images, reconstructions = [], []
    for sample in samples:
        inputs = prepare(model, [sample])
        results = reconstruct_cases(model, inputs, cases, generators)
        reconstructions.append([of_image(0, result) for result in results])
        images.append(as_rgb(sample))
    shown = images, reconstructions, args.mask_ratios, model.backbone.patch_size
    if is_mp3:
        orders = draw_orders(len(images), prod(model.backbone.grid_size), args.seed)
        return plot_jigsaws(*shown, orders)
    return plot_reconstructions(*shown)


@torch.no_grad()
def draw_mix(model: nn.Module, samples: list[dict], args: argparse.Namespace) -> Figure:
    """What becomes of the patches of two images, shuffled together."""
    if len(samples) != 2:
        raise ValueError(f'--mix takes exactly two images, got {len(samples)}')
    if not isinstance(model, MP3):
        raise ValueError(
            f'--mix is for MP3, whose patches may come from anywhere, not for a '
            f'{type(model).__name__}: give a config of configs/mp3'
        )
    tokens = model.backbone.patchify_own_grid(prepare(model, samples))  # (2, N, D)
    (order,) = draw_orders(1, 2 * tokens.shape[1], args.seed)  # (2 N,)
    cases = [(ratio,) for ratio in args.mask_ratios]
    generators = [torch.Generator().manual_seed(args.seed) for _ in cases]
    results = place_cases(model, mix_patches(tokens, order), cases, generators)
    images = [as_rgb(sample) for sample in samples]
    patches = np.stack(
        [cut_patches(image, model.backbone.patch_size) for image in images]
    )
    return plot_mix(
        images,
        mix_patches(patches, order),
        [[of_image(k, result) for result in results] for k in (0, 1)],
        args.mask_ratios,
    )


def prepare(model: nn.Module, samples: list[dict]) -> Tensor:
    """Normalised images (B, C, H, W) on the model's device."""
    return model.data_preprocessor(default_collate(samples))['inputs']


def of_image(index: int, result: Reconstruction) -> Reconstruction:
    """The reconstruction of one image of a batch, (V,) each, on the CPU."""
    return Reconstruction(*(field[index].cpu() for field in result))


def draw_orders(count: int, num: int, seed: int) -> np.ndarray:
    """Permutations (count, num) that owe nothing to those behind the masks."""
    generator = torch.Generator().manual_seed(seed + 1)
    return shuffle_ids(count, num, generator).numpy()


def main(args: argparse.Namespace) -> None:
    """Draw."""
    with readable_errors():
        for ratio in args.mask_ratios:
            check_ratio('--mask-ratios', ratio)
        if args.pos_mask_ratio is not None:
            check_ratio('--pos-mask-ratio', args.pos_mask_ratio, closed=True)
        cfg = load_config(args.config, read_options(args.cfg_options))
        paths = find_images(args.images, args.num_images)
        model = load_model(cfg, args.checkpoint)
        if isinstance(model, MP3) and args.pos_mask_ratio is not None:
            raise ValueError(
                f'--pos-mask-ratio {args.pos_mask_ratio} is for DropPos; in MP3 all '
                'patches lose their positions: leave it out'
            )
        if not cfg.get('test_dataloader'):
            raise ValueError(
                f'{args.config} has no test_dataloader, whose pipeline reads the '
                'images: give the config that was trained with'
            )
        # Only its pipeline: the images of the config need not be there.
        dataset = DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True})
        samples = [load_sample(path, dataset.pipeline) for path in paths]
        if args.mix:
            figure = draw_mix(model, samples, args)
        else:
            figure = draw(model, samples, args)
        name = 'mix.png' if args.mix else 'puzzle.png'
        out = args.out or Path(args.checkpoint).with_name(name)
        if out.is_dir():
            out /= name
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150)
        print(f'wrote {out}')


if __name__ == '__main__':
    main(args)
