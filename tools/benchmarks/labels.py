"""Seconds of the check of COCO's labels: ``python tools/benchmarks/labels.py``.

A file of COCO's size is drawn; the images are hard links to a few files.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmpospretrain.datasets.labelled import check_layout

CLASSES = [f'class {number}' for number in range(80)]
LINKS = 60_000  # that a file may have, at most: 65,000 on ext4


def draw(folder: Path, images: int, objects: int) -> None:
    """Write images of 640 × 480 and ``coco.json``, boxes and polygons of 20 points."""
    rng = np.random.default_rng(0)
    for index in range(images):
        if index % LINKS == 0:
            file = folder / f'{index:012}.jpg'
            Image.new('RGB', (640, 480)).save(file)
        else:
            os.link(file, folder / f'{index:012}.jpg')
    corners = rng.uniform((0, 0), (500, 400), (objects, 2)).round(2)
    sizes = rng.uniform((2, 2), (130, 75), (objects, 2)).round(2)
    angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) / 2 + 0.5
    annotations = [
        dict(
            id=index,
            image_id=int(rng.integers(images)),
            category_id=int(rng.integers(len(CLASSES))),
            bbox=[*corner.tolist(), *size.tolist()],
            area=float(size.prod()),
            iscrowd=0,
            segmentation=[(corner + size * circle).round(2).flatten().tolist()],
        )
        for index, (corner, size) in enumerate(zip(corners, sizes, strict=True))
    ]
    content = dict(
        images=[
            dict(id=index, file_name=f'{index:012}.jpg', width=640, height=480)
            for index in range(images)
        ],
        annotations=annotations,
        categories=[dict(id=index, name=name) for index, name in enumerate(CLASSES)],
    )
    (folder / 'coco.json').write_text(json.dumps(content))


def main() -> None:
    """Draw, and check twice."""
    parser = argparse.ArgumentParser(description='Time the check of labels.')
    parser.add_argument('--images', type=int, default=118_000)
    parser.add_argument('--objects', type=int, default=860_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ['MMPOSPRETRAIN_CACHE'] = f'{name}/cache'
        draw(Path(name), args.images, args.objects)
        dataset = dict(
            type='mmdet.CocoDataset',
            data_root=name,
            ann_file='coco.json',
            data_prefix=dict(img=''),
            metainfo=dict(classes=CLASSES),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_mask=True),
            ],
        )
        for start in ('first', 'second'):
            cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
            seconds, cpu = time.perf_counter(), time.process_time()
            check_layout(cfg)
            seconds, cpu = time.perf_counter() - seconds, time.process_time() - cpu
            print(f'{start} start: {seconds:.1f} s, {cpu:.1f} s of CPU')


if __name__ == '__main__':
    main()
