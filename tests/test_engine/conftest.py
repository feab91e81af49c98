"""Fixtures of whole trainings."""

import pytest


@pytest.fixture
def knn(image_folder, tmp_path):
    """A hook; the labels are made up."""
    datasets = {}
    for split in ('train', 'val'):
        images = sorted((image_folder / split).iterdir())
        lines = [f'{split}/{p.name} {i % 2}' for i, p in enumerate(images)]
        (tmp_path / f'{split}.txt').write_text('\n'.join(lines))
        datasets[split] = dict(
            type='mmpospretrain.ImageFolder',
            with_label=True,
            data_root=str(image_folder),
            ann_file=str(tmp_path / f'{split}.txt'),
            pipeline=[dict(type='CenterCrop', crop_size=96), dict(type='PackInputs')],
        )
    return dict(type='mmpospretrain.KNNHook', k=3, num_workers=0, **datasets)
