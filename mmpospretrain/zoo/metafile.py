"""``metafile.yml``: what there is to say of the models in a folder of configs.

OpenMMLab's format, as the ``model-index`` package reads it. Fields of ours beside it:

- ``Results`` are measured by this project. What others print is in ``Reported``, of the
  same layout, so that no reader of the format takes one for the other.
- A result may have a ``Setting``, the ``Source`` of a reported one (a table of the
  paper), the number of ``Seeds`` and the standard ``Deviation`` over them, and a
  ``Baseline`` with ``Name``, ``Metrics`` and ``Deviation``.
- ``Checkpoint``: the ``File`` name in the cache, the ``Format`` of the keys, the
  ``Licence``, and where known ``SHA256``, ``Mirrors`` (URLs to try after ``Weights``),
  ``Log`` (a URL), and ``By Hand``, what to do where no program can fetch it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .fetch import check_file_name

# In an editable installation links into the checkout, in a wheel copies: OpenMMLab's
# place for configs and their index.
MIM = Path(__file__).parents[1] / '.mim'
FIELDS = {'Name', 'In Collection', 'Metadata', 'Config', 'Weights', 'Results'}
OUR_FIELDS = {'Reported', 'Checkpoint'}
SHA256 = re.compile(r'[0-9a-f]{64}')
NAME = re.compile(r'[\w+-][\w.+-]*')  # of a model: one word, also in zoo:// and a file


def metafiles(root: Path = MIM) -> Iterator[Path]:
    """The files that ``model-index.yml`` imports, in its order.

    Raises:
        FileNotFoundError: If there is no such index.
        ValueError: If it imports a file that is not below it.
    """
    index = root / 'model-index.yml'
    if not index.is_file():
        raise FileNotFoundError(
            f'there is no {index}: install the package again, from a checkout with '
            'its symbolic links'
        )
    for path in yaml.safe_load(index.read_text(encoding='utf-8'))['Import']:
        check_below(f'{index}: Import', path)
        yield root / path


def check_below(source: str, path: Any) -> None:
    """Check that a path stays below the folder that it is relative to.

    Raises:
        ValueError: If it does not, on any system.
    """
    parts = re.split(r'[/\\]', path) if isinstance(path, str) else []
    if not parts or parts[0] in ('', '~') or '..' in parts or ':' in path:
        raise ValueError(
            f'{source}: {path!r} is no path below the folder of model-index.yml: give '
            'one such as configs/METHOD/NAME'
        )


def check_name(name: Any) -> None:
    """Check that a model can be called so.

    Raises:
        ValueError: If it cannot.
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ValueError(
            f'no model can be called {name!r}: its name is one word of letters, digits '
            'and - + . _'
        )


def config_path(config: Path, metafile: Path | None = None) -> str:
    """The path of a config as metafiles and documents have it: ``configs/…``.

    Args:
        config: The config.
        metafile: Where it is to be noted, if not beside it.

    Raises:
        ValueError: If it is in no folder ``configs``, or in another one than the
            metafile, so that the zoo would not find it.
    """
    for folder in config.parents:  # the nearest first: others may be called so, too
        if folder.name == 'configs' and (metafile or config).is_relative_to(folder):
            return config.relative_to(folder.parent).as_posix()
    together = f' that {metafile} is in, too' if metafile else ''
    raise ValueError(
        f'{config} is in no folder configs/{together}, where the zoo looks for it: '
        'copy it into configs/METHOD/, add it to the metafile.yml there, with Name, '
        'In Collection, Metadata, Config, and give the copy'
    )


def read_metafile(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The ``Collections`` and ``Models`` of a metafile.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML, or a model lacks a name, is in no collection, has
            a field that nobody reads, or names a file elsewhere.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is no YAML: {error}') from error
    content = {'Collections': [], 'Models': [], **(content or {})}
    collections = {collection['Name'] for collection in content['Collections']}
    for model in content['Models']:
        name = model.get('Name')
        if not name:
            raise ValueError(f'{path} has a model without a Name')
        check_name(name)
        if model.get('In Collection') not in collections:
            raise ValueError(
                f'{path}: {name} is in collection {model.get("In Collection")!r}, not '
                f'in one of {sorted(collections)}'
            )
        if unknown := model.keys() - FIELDS - OUR_FIELDS:
            raise ValueError(f'{path}: {name} has unknown fields {sorted(unknown)}')
        if config := model.get('Config'):
            check_below(f'{path}: Config of {name}', config)
        checkpoint = model.get('Checkpoint') or {}
        if checkpoint.get('File') is not None:
            check_file_name(f'{path}: File of {name}', checkpoint['File'])
        sha256 = checkpoint.get('SHA256')
        if sha256 and not SHA256.fullmatch(str(sha256)):
            raise ValueError(f'{path}: the SHA256 of {name} is none: {sha256!r}')
    return content


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists, as OpenMMLab writes them."""
        super().increase_indent(flow, indentless=False)


def dump_metafile(content: dict[str, Any]) -> str:
    """The text of a metafile, as every one here has it, so that edits are small."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def write_model(path: Path, model: dict[str, Any]) -> None:
    """Write a model into a metafile: update the one with its name, or add it.

    Args:
        path: The metafile; its collections are there.
        model: Fields; dicts such as ``Checkpoint`` are merged, all else is replaced.

    Raises:
        ValueError: If the metafile would not be valid any more; it is left alone.
    """
    content = read_metafile(path)
    for old in content['Models']:
        if old['Name'] == model['Name']:
            for key, value in model.items():
                merges = isinstance(value, dict) and isinstance(old.get(key), dict)
                old[key] = {**old[key], **value} if merges else value
            break
    else:
        content['Models'].append(model)
    new = path.with_suffix('.new')
    new.write_text(dump_metafile(content), encoding='utf-8')
    try:
        read_metafile(new)
    except ValueError:
        new.unlink()
        raise
    new.replace(path)
