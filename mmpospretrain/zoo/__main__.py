"""``python -m mmpospretrain.zoo``: list, info, download, verify, table."""

import argparse
import sys
from itertools import zip_longest
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from mmpospretrain.engine.errors import readable_errors

from .fetch import cache_dir
from .registry import Entry, entries, fetch_entry, find, list_models
from .table import describe, update_tables
from .verify import verify

DOCUMENT = Path('model_zoo.md')


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog='python -m mmpospretrain.zoo',
        description='Models by name: configs, weights, results.',
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, text in (
        ('list', 'the models, and whose weights can be had'),
        ('info', 'all that is known of a model'),
        ('download', 'fetch the weights of a model, and print where they are'),
        ('verify', 'check configs, fetched files, and that addresses answer'),
        ('table', 'print model_zoo.md with its tables made anew'),
    ):
        command = commands.add_parser(name, help=text, description=text)
        if name in ('info', 'download'):
            command.add_argument('name', metavar='NAME', help='as list shows it')
        if name in ('list', 'verify'):
            command.add_argument(
                'pattern', nargs='?', metavar='PATTERN', help="such as 'stop_vit-*'"
            )
        if name == 'verify':
            command.add_argument(
                '--offline', action='store_true', help='ask no server for its files'
            )
        if name == 'table':
            command.add_argument(
                '--write', action='store_true', help='into the file instead'
            )
    return parser.parse_args()


def chosen(pattern: str | None) -> list[Entry]:
    """The models that a pattern names.

    Raises:
        ValueError: If there are none.
    """
    names = list_models(pattern)
    if not names:
        raise ValueError(f'no model is called {pattern!r}')
    return [find(name) for name in names]


def list_table(models: list[Entry]) -> Table:
    """What `list` prints."""
    name = Column('name', no_wrap=True)  # to be copied, and found with grep
    table = Table(name, 'weights', 'licence', box=SIMPLE_HEAD, pad_edge=False)
    for entry in models:
        table.add_row(entry.name, availability(entry), entry.licence)
    return table


def availability(entry: Entry) -> str:
    """Where the weights of a model are to be had."""
    if not entry.filename:
        return 'none'
    if (cache_dir() / entry.filename).is_file():
        return 'fetched'
    if entry.by_hand:
        return 'by hand'
    return 'download' if entry.urls else 'on a mirror of yours'


def info_text(entry: Entry) -> str:
    """What `info` prints: what is known, and nothing else.

    Plain lines, since a table cuts or breaks what is to be copied where the terminal is
    narrow, and the terminal itself does not.
    """
    path = cache_dir() / entry.filename if entry.filename else None
    rows = (
        ('name', entry.name),
        ('method', entry.method),
        *((name.lower(), value) for name, value in entry.training.items()),
        ('config', entry.config),
        ('weights', '\n'.join(entry.urls) or availability(entry)),
        ('by hand', entry.by_hand),
        ('file' if path and path.is_file() else 'file, not there yet', path),
        ('sha256', entry.sha256),
        ('format', entry.format),
        ('licence', entry.licence),
        ('log', entry.log),
        ('measured by this project', '\n'.join(map(describe, entry.measured))),
        ('reported by the paper', '\n'.join(map(describe, entry.reported))),
    )
    known = {name: str(value).splitlines() for name, value in rows if value}
    width = max(map(len, known))
    return '\n'.join(
        f'{name:{width}}  {line}'
        for label, lines in known.items()
        for name, line in zip_longest([label], lines, fillvalue='')
    )


def verify_all(models: list[Entry], offline: bool, console: Console) -> int:
    """Check models, print a table of all and the problems below it; how many."""
    table = Table(Column('name', no_wrap=True), 'verified')
    problems = []
    for entry in models:
        right, wrong = verify(entry, offline)
        table.add_row(entry.name, 'FAILED' if wrong else ', '.join(right) or '–')
        problems += [f'{entry.name}: {what}' for what in wrong]
    console.print(table)
    for problem in problems:
        console.print(problem, style='red', soft_wrap=True)
    return len(problems)


def main() -> int:
    """Run the command, and return the exit code."""
    args, console = parse_args(), Console(markup=False)  # texts of metafiles
    with readable_errors():
        if args.command == 'list':
            console.print(list_table(chosen(args.pattern)))
        elif args.command == 'info':
            print(info_text(find(args.name)))
        elif args.command == 'download':
            print(fetch_entry(args.name))
        elif args.command == 'verify':
            return int(verify_all(chosen(args.pattern), args.offline, console) > 0)
        else:
            text = update_tables(
                DOCUMENT.read_text(encoding='utf-8'), entries().values()
            )
            if args.write:
                DOCUMENT.write_text(text, encoding='utf-8')
            else:
                print(text, end='')
    return 0


if __name__ == '__main__':
    sys.exit(main())
