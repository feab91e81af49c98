"""The benchmark of backbones runs and says what it ran. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_both_backbones_are_measured(tmp_path):
    out = tmp_path / 'figures.json'
    done = subprocess.run(
        [
            *(sys.executable, '-W', 'ignore', 'tools/benchmarks/backbone.py'),
            *('--size', '64', '--steps', '2', '--warmup', '1', '--rel-pos'),
            *('--window-size', '3', '--json', str(out)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures['settings']['rel_pos'] is True
    for name in ('ViTSAM', 'ViTDet'):
        assert len(figures['seconds'][name]) == 2
        assert figures['peak_mib'][name] > 100  # weights and gradients alone are more
        assert name in done.stdout
    ratio = figures['peak_mib']['ViTDet'] / figures['peak_mib']['ViTSAM']
    assert figures['ratios']['memory'] == ratio
