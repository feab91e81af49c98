"""Results of linear_probe.py, to be drawn beside those of another run."""

import json
from pathlib import Path
from typing import Any


def split_entry(entry: str) -> tuple[str, str]:
    """Name and path of ``NAME=PATH``, where both may hold an equals sign: η=0.75."""
    parts = entry.split('=')
    splits = [('='.join(parts[:k]), '='.join(parts[k:])) for k in range(1, len(parts))]
    there = [split for split in splits if Path(split[1]).expanduser().exists()]
    return [*there, *splits[::-1], ('', entry)][0]


def read_earlier(entries: list[str], own: str, k: int) -> dict[str, dict[str, Any]]:
    """What the runs that ``--compare`` names have written, by name.

    Args:
        entries: ``NAME=PATH`` each.
        own: Name of the run that they are compared with.
        k: Its number of neighbours.

    Raises:
        FileNotFoundError: If there is no result at a path.
        ValueError: If it has no curve, one of other neighbours, or no name of its own;
            or if there are several in a folder.
    """
    earlier: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name, path = split_entry(entry)
        if not name or name in {own, *earlier}:
            raise ValueError(
                f'--compare takes NAME=PATH, each name once and not {own!r}, '
                f'which is --name; got {entry!r}'
            )
        path = Path(path).expanduser()
        if path.is_dir():
            path = result_in(path)
        if not path.is_file():
            raise FileNotFoundError(f'--compare: there is no {path}')
        try:
            report = json.loads(path.read_text(encoding='utf-8'))
            curve = {int(layer): x for layer, x in report['knn_by_layer'].items()}
            theirs = report['arguments']['knn']
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f'--compare: {path} has no curve; it is not from linear_probe.py with '
                '--all-layers'
            ) from error
        if theirs != str(k):
            raise ValueError(
                f'--compare: {path} is of {theirs} neighbours, this run of {k}'
            )
        earlier[name] = {**report, 'knn_by_layer': curve}
    return earlier


def result_in(folder: Path) -> Path:
    """The one result in a folder.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    results = sorted(folder.glob('linear_probe*.json'))
    if not results:
        raise FileNotFoundError(
            f'--compare: there is no linear_probe_….json in {folder}'
        )
    if len(results) > 1:
        raise ValueError(
            f'--compare: {folder} has several results, name one of them: '
            f'{", ".join(result.name for result in results)}'
        )
    return results[0]
