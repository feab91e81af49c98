"""A backbone for other libraries: ``export_model.py CHECKPOINT --to timm|hf|…``.

``timm`` and ``hf`` are folders that ``timm.create_model('local-dir:FOLDER',
pretrained=True)`` and ``transformers.AutoModel.from_pretrained(FOLDER)`` load;
``mmpretrain`` is a ``.pth`` for ``VisionTransformer``, and ``safetensors`` a file with
the names of this project. Its features are those of the checkpoint, or it is not
written: heads, predictors and decoders stay behind, a field of positions is sampled on
the grid, no positions become zeros. Checkpoints of other projects will do, too.
"""

import argparse
from pathlib import Path

ENDINGS = dict(
    timm='_timm', hf='_hf', safetensors='.safetensors', mmpretrain='_mmpretrain.pth'
)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description='Export a backbone.')
    parser.add_argument('checkpoint', help='checkpoint file, URL or zoo://NAME')
    parser.add_argument('--to', choices=ENDINGS, required=True)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='PATH',
        help='file, or for timm and hf a new folder; by default in the working folder, '
        'named as the checkpoint',
    )
    parser.add_argument(
        '--prefix',
        help='of the backbone in the checkpoint, such as backbone; by default the one '
        'that is evaluated',
    )
    parser.add_argument(
        '--img-size',
        type=int,
        nargs='+',
        metavar='PIXELS',
        help='of the images, one number or rows and columns; by default as in the '
        'pre-training. Positions are sampled anew for others',
    )
    parser.add_argument(
        '--source-grid',
        type=int,
        nargs=2,
        metavar=('ROWS', 'COLS'),
        help='patches of the pre-training, where the checkpoint does not tell and they '
        'are no square',
    )
    parser.add_argument(
        '--num-heads',
        type=int,
        metavar='N',
        help='of attention, where neither the checkpoint nor its size tells',
    )
    return parser.parse_args()


if __name__ == '__main__':
    args = parse_args()  # first: the imports below take seconds

from mmpospretrain.engine.errors import readable_errors
from mmpospretrain.zoo.formats.export import export


def main(args: argparse.Namespace) -> None:
    """Export."""
    with readable_errors():
        size = args.img_size
        if size and (len(size) > 2 or min(size) < 1):
            raise ValueError(f'--img-size takes one number or two, got {size}')
        name = Path(args.checkpoint).name.removesuffix('.tar').rpartition('.')[0]
        out = args.out or Path((name or Path(args.checkpoint).name) + ENDINGS[args.to])
        notes = export(
            args.checkpoint,
            args.to,
            out,
            prefix=args.prefix,
            img_size=(size[0], size[-1]) if size else None,
            num_heads=args.num_heads,
            source_grid=args.source_grid and tuple(args.source_grid),
        )
        print(f'{out}: {"; ".join(notes)}')


if __name__ == '__main__':
    main(args)
