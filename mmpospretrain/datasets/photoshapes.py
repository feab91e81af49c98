"""PhotoShapes: a small, labelled image set drawn from photographs on this machine.

Every image shows one to three silhouettes (circle, square, triangle, star) that are cut
from photographs and laid over another photograph. Nothing is downloaded: the
photographs are those in scikit-image's wheel. One set serves pre-training,
classification, detection and segmentation::

    python -m mmpospretrain.datasets.photoshapes OUT --images 6000 --size 112 --seed 0

::

    OUT/
    ├── train/000000.jpg …           RGB, (size, size)
    ├── val/000000.jpg …
    ├── masks/{train,val}/000000.png uint8: 0 background, 1 circle … 4 star
    ├── annotations/instances_{train,val}.json
    │                                COCO instances: categories 1 … 4, visible part as
    │                                RLE; each image names its ``photographs``
    ├── labels/{train,val}.txt       ``train/000000.jpg 2``: the class of the largest
    │                                visible silhouette, 0 circle … 3 star
    │                                (MMPretrain's ``ann_file`` with ``data_root=OUT``)
    ├── labels/count_{train,val}.txt likewise: how many silhouettes, less one
    └── photoshapes.json             arguments, photographs and counts; written last

What it measures: the class is the silhouette and nothing else. Any photograph of a
split fills any class, so neither texture nor colour gives the class away. The split is
by photograph: no validation pixel, of a background or of a silhouette, comes from a
photograph used in training. Within an image all photographs differ.

Reproducible: image ``i`` of a split depends on (seed, split, i) and the size alone. The
number of workers does not matter, and a larger set begins with the images of a smaller
one. Another version of Pillow or NumPy may round differently.
"""

import argparse
import json
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from mmpospretrain.datasets.scenes import (
    PHOTOGRAPHS,
    SHAPES,
    SPLITS,
    VERSION,
    draw_scene,
)
from mmpospretrain.progress import track

MANIFEST = 'photoshapes.json'


def _encode_runs(mask: np.ndarray) -> dict:
    """COCO's uncompressed RLE: lengths of runs down the columns, zeros first."""
    flat = mask.ravel(order='F').astype(np.int8)
    starts = np.flatnonzero(np.diff(flat, prepend=0))
    counts = np.diff(starts, prepend=0, append=flat.size)
    return {'size': list(mask.shape), 'counts': counts.tolist()}


def _annotate(mask: np.ndarray, category: int) -> dict:
    """COCO annotation of one visible mask, (H, W) bool; the ids come later."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        'category_id': category,
        'bbox': [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        'area': int(mask.sum()),
        'iscrowd': 0,
        'segmentation': _encode_runs(mask),
    }


def _write_image(index: int, *, out: Path, split: str, size: int, seed: int) -> dict:
    """Draw and save one image and its map; return its part of the annotations."""
    scene = draw_scene(split, index, size=size, seed=seed)
    stem = f'{index:06d}'
    scene.image.save(out / split / f'{stem}.jpg', quality=92)
    categories = np.array([0, *(c + 1 for c in scene.classes)], np.uint8)
    Image.fromarray(categories[scene.instances]).save(
        out / 'masks' / split / f'{stem}.png'
    )
    return {
        'image': {
            'id': index,
            'file_name': f'{stem}.jpg',
            'height': size,
            'width': size,
            'photographs': scene.photographs,
        },
        'annotations': [
            {'image_id': index, **_annotate(scene.instances == k, int(categories[k]))}
            for k in range(1, len(categories))
        ],
    }


def _write_annotations(out: Path, split: str, records: list[dict]) -> dict[str, int]:
    """Write what belongs to a whole split; return its counts."""
    annotations = [a for record in records for a in record['annotations']]
    for number, annotation in enumerate(annotations, start=1):
        annotation['id'] = number  # from 1: COCOeval takes id 0 for "no match"
    coco = {
        'info': {'description': f'PhotoShapes {split}', 'version': str(VERSION)},
        'categories': [{'id': k, 'name': s} for k, s in enumerate(SHAPES, start=1)],
        'images': [record['image'] for record in records],
        'annotations': annotations,
    }
    path = out / 'annotations' / f'instances_{split}.json'
    path.write_text(json.dumps(coco), encoding='utf-8')
    lines: dict[str, list[str]] = {split: [], f'count_{split}': []}
    for record in records:
        largest = max(record['annotations'], key=lambda a: a['area'])
        image = f'{split}/{record["image"]["file_name"]}'
        lines[split].append(f'{image} {largest["category_id"] - 1}\n')
        lines[f'count_{split}'].append(f'{image} {len(record["annotations"]) - 1}\n')
    for name, content in lines.items():
        path = out / 'labels' / f'{name}.txt'
        path.write_text(''.join(content), encoding='utf-8')
    count = Counter(SHAPES[a['category_id'] - 1] for a in annotations)
    return {'images': len(records), **{shape: count[shape] for shape in SHAPES}}


def _find_existing(out: Path, request: dict) -> dict | None:
    """The manifest of a complete set in ``out``, None if there is (more) to draw.

    Raises:
        FileExistsError: If ``out`` holds anything but this very set.
    """
    way_out = 'choose another folder, or delete this one'
    if out.exists() and not out.is_dir():
        raise FileExistsError(f'{out} is a file, not a folder: choose another path')
    if not out.is_dir() or not any(out.iterdir()):
        return None
    manifest, unfinished = out / MANIFEST, out / f'{MANIFEST}.part'
    found = manifest if manifest.exists() else unfinished
    if not found.exists():
        raise FileExistsError(f'{out} is not empty and no PhotoShapes set: {way_out}')
    try:
        existing = json.loads(found.read_text(encoding='utf-8'))
    except ValueError as error:
        raise FileExistsError(f'{found} is damaged ({error}): {way_out}') from error
    there, asked = (
        {'version': m['version'], **m['arguments']} for m in (existing, request)
    )
    if there != asked:
        differences = ', '.join(
            f'{key} {there[key]} (asked for: {asked[key]})'
            for key in asked
            if there[key] != asked[key]
        )
        raise FileExistsError(
            f'{out} holds another PhotoShapes set, with {differences}: {way_out}'
        )
    complete = found is manifest and all(
        len(list(out.glob(pattern))) == existing['counts'][split]['images']
        for split in SPLITS
        for pattern in (f'{split}/*.jpg', f'masks/{split}/*.png')
    )
    return existing if complete else None


def generate(
    out: str | os.PathLike,
    *,
    images: int = 6000,
    size: int = 112,
    seed: int = 0,
    val_images: int = 400,
    workers: int | None = None,
    quiet: bool = False,
) -> dict:
    """Write a PhotoShapes set, or find that it is there already.

    An interrupted set is drawn anew: the same arguments give the same bytes.

    Args:
        out: Folder of the set: new, empty, or holding this very set.
        images: Training images, at least 1.
        size: Side of the images in pixels, at least 32.
        seed: Of everything random, at least 0.
        val_images: Validation images, at least 1.
        workers: Processes that draw. Defaults to the number of CPUs.
        quiet: Whether to print nothing and show no progress bar.

    Returns:
        The content of ``photoshapes.json``.

    Raises:
        FileExistsError: If ``out`` is a file, another set, or something else.
        ValueError: If a number is out of range.
    """
    arguments = {'images': images, 'size': size, 'seed': seed, 'val_images': val_images}
    for name, minimum in {'images': 1, 'val_images': 1, 'size': 32, 'seed': 0}.items():
        if arguments[name] < minimum:
            raise ValueError(f'{name} must be >= {minimum}, got {arguments[name]}')
    out = Path(out).expanduser()
    manifest = {
        'name': 'PhotoShapes',
        'version': VERSION,
        'arguments': arguments,
        'classes': list(SHAPES),
        'photographs': {split: list(names) for split, names in PHOTOGRAPHS.items()},
        'counts': {},
    }
    if existing := _find_existing(out, manifest):
        if not quiet:
            print(f'PhotoShapes: already there: {out}')
        return existing
    for split in SPLITS:
        for folder in (split, f'masks/{split}', 'annotations', 'labels'):
            (out / folder).mkdir(parents=True, exist_ok=True)
    # Claims the folder from the first moment; its final name says the set is complete.
    unfinished = out / f'{MANIFEST}.part'
    unfinished.write_text(json.dumps(manifest), encoding='utf-8')
    (out / MANIFEST).unlink(missing_ok=True)
    # Forked workers start at once; elsewhere each has to import the package first.
    context = get_context('fork' if sys.platform == 'linux' else None)
    ignore_ctrl_c = (signal.SIGINT, signal.SIG_IGN)  # the parent's business
    with ProcessPoolExecutor(workers, context, signal.signal, ignore_ctrl_c) as pool:
        for split, number in zip(SPLITS, (images, val_images), strict=True):
            write = partial(_write_image, out=out, split=split, size=size, seed=seed)
            records = track(
                pool.map(write, range(number), chunksize=8),
                None if quiet else f'PhotoShapes {split}',
                number,
            )
            manifest['counts'][split] = _write_annotations(out, split, list(records))
    unfinished.write_text(json.dumps(manifest, indent=2) + '\n', encoding='utf-8')
    unfinished.replace(out / MANIFEST)
    return manifest


def main() -> None:
    """Command line of :func:`generate`."""
    parser = argparse.ArgumentParser(
        prog='python -m mmpospretrain.datasets.photoshapes',
        description='Draw the PhotoShapes image set into a folder.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', help='folder of the set')
    parser.add_argument('--images', type=int, default=6000, help='training images')
    parser.add_argument('--size', type=int, default=112, help='side in pixels')
    parser.add_argument('--seed', type=int, default=0, help='of everything random')
    parser.add_argument('--val-images', type=int, default=400, help='validation images')
    parser.add_argument('--workers', type=int, help='processes (default: CPUs)')
    arguments = vars(parser.parse_args())
    try:
        generate(**arguments)
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
