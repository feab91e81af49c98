"""Words that the errors of labelled data share."""

from collections.abc import Sequence

YOUR_CLASSES = '"Your classes" in configs/transfer/README.md'


def some(names: Sequence[str], number: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f' and {len(names) - number} more' if len(names) > number else ''
    return (', '.join(map(str, names[:number])) or 'none') + more
