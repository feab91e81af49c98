"""masks.py as a user meets it."""


def test_masks(tool, capsys):
    assert tool('benchmarks/masks.py', '--batch-size', 4, '--repeats', 2) is None
    shown = capsys.readouterr().out
    assert shown.count('multi-block') == shown.count('random') == 3
    assert 'batch 4' in shown
