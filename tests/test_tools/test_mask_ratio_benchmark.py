"""The benchmark of mask ratios: its sums, and one run of it. No time is asserted."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'tools/benchmarks/mask_ratios.py'
TINY = str(ROOT / 'configs/mp3/mp3_vit-tiny-p16_photoshapes.py')
NAMES = ['MP3', 'MP3, 1/3 asked', 'MAE', 'ViT']


@pytest.fixture
def mask_ratios(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module(SCRIPT.stem)


def test_rows_differ_in_what_they_are_about(mask_ratios, monkeypatch):
    options = ['--mp3-options', 'model.backbone.drop_path_rate=0', '--batch-size', '3']
    monkeypatch.setattr(sys, 'argv', ['mask_ratios.py', *options])
    args = mask_ratios.parse_args()
    assert args.ratios == [0.3, 0.5, 0.75, 0.9]  # Table 2
    mp3, asked, mae, vit = mask_ratios.rows(args, 0.3).values()
    assert [*mask_ratios.rows(args, 0.3)] == NAMES
    same = {'model.backbone.drop_path_rate': 0, 'model.mask_ratio': 0.3}
    assert mp3.options == {**same, 'model.query_ratio': 1.0}
    assert asked.options == {**same, 'model.query_ratio': 1 / 3}
    assert mae.options == {'model.backbone.mask_ratio': 0.3}
    assert vit.options == {}
    common = {(job.batch_size, job.device, job.amp) for job in (mp3, asked, mae, vit)}
    assert common == {(3, args.device, 'float32')}


def test_ratios_of_known_times(mask_ratios):
    seconds = dict(MP3=[1.0, 3.0, 2.0], MAE=[4.0, 4.0, 5.0], ViT=[8.0, 1.0, 8.0])
    runs = mask_ratios.relate({k: dict(seconds=v) for k, v in seconds.items()})
    # Medians: 2, 4, 8. Pairs of MP3 and MAE: 1/4, 3/4, 2/5.
    over = runs['MP3']['over']
    assert over['MAE'] == dict(
        ratio_of_medians=0.5, median_of_ratios=0.4, ratio_of_fastest=0.25
    )
    assert over['ViT'] == dict(
        ratio_of_medians=0.25, median_of_ratios=0.25, ratio_of_fastest=1.0
    )
    assert runs['MAE']['over']['MAE']['ratio_of_medians'] == 1
    assert runs['ViT']['over']['MAE']['ratio_of_medians'] == 2


def test_ratio_out_of_range(tool, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    error = tool('benchmarks/mask_ratios.py', '--ratios', 0.5, 1.0)
    assert error == 'error: --ratios must lie in [0, 1), got 1.0'


def test_tiny_models(tmp_path):
    out = tmp_path / 'times.json'
    done = subprocess.run(
        [
            *(sys.executable, '-W', 'ignore', str(SCRIPT), '--mp3', TINY),
            *('--mae-options', 'model.backbone.arch=deit-tiny'),
            *('model.neck.embed_dim=192', 'model.neck.decoder_depth=1'),
            *('--vit-options', 'model.backbone.arch=deit-tiny'),
            *('model.head.in_channels=192', '--ratios=0.5', '--batch-size=2'),
            *('--steps=2', '--warmup=0', '--device=cpu', '--threads=1'),
            *('--markdown', f'--json={out}'),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(out.read_text())
    said = [group[key] for key in ('mask_ratio', 'batch_size', 'amp')]
    assert said == [0.5, 2, 'float32']
    runs = group['runs']
    assert [*runs] == NAMES
    for run in runs.values():
        assert len(run['seconds']) == 2
        assert run['note'] is None
        assert run['peak_memory_mib'] > 0
        ratio = run['over']['MAE']['ratio_of_medians']
        assert ratio == pytest.approx(run['median'] / runs['MAE']['median'])
    lines = [line.split('|') for line in done.stdout.splitlines() if line[:1] == '|']
    header, _, *rows = [[cell.strip() for cell in line[1:-1]] for line in lines]
    assert header == ['η', '', 's/image', '× MAE', '× ViT', 'peak MiB']
    assert [row[1] for row in rows] == NAMES
    assert rows[2][3] == rows[3][4] == '1.00'
    assert f'{runs["MP3"]["seconds_per_image"]:.4f}' == rows[0][2]
    assert 'batch 2, float32' in done.stdout
