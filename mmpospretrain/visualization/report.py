"""A page of results: one HTML file beside its pictures, readable on any screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

STYLE = """\
:root { --ink: #1f2430; --soft: #5b6472; --line: #e3e6eb; --accent: #0b6e4f; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 3rem; color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { margin: 0 0 .3rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.6rem 0 .4rem; padding-top: 1.2rem; font-size: 1.25rem;
  border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 46rem; }
.verdict { margin: 1.2rem 0; padding: .8rem 1rem; font-size: 1.1rem;
  border-left: .3rem solid var(--accent); background: #eef7f3; max-width: none; }
.verdict.worse { border-color: #b3261e; background: #fdeeed; }
.verdict.unclear { border-color: #8a6d00; background: #fbf6e3; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
figure { flex: 1 1 19rem; margin: 0; max-width: min(100%, 44rem); }
img { display: block; width: 100%; height: auto; }
figcaption, .time { color: var(--soft); font-size: .9rem; }
pre { margin: .8rem 0; padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; background: #f5f6f8; border-radius: .4rem;
  font-size: .85rem; }
table { border-collapse: collapse; }
th, td { padding: .25rem 1.2rem .25rem 0; text-align: left; font-weight: normal;
  vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); white-space: nowrap; }
"""


@dataclass(frozen=True)
class Picture:
    """An image file, by its path relative to the page."""

    path: str
    caption: str
    alt: str
    """What it shows, for those who do not see it."""


@dataclass(frozen=True)
class Section:
    """One step of the work: what it is, what came out, how to repeat it."""

    title: str
    text: str
    pictures: Sequence[Picture]
    command: str
    seconds: float
    table: Sequence[Sequence[str]] = ()
    """Rows, the first one of headings."""


def render_page(
    title: str,
    introduction: str,
    verdict: str,
    outcome: Literal['better', 'worse', 'unclear'],
    sections: Sequence[Section],
    facts: Mapping[str, str],
) -> str:
    """Write a page; all text is escaped.

    Args:
        title: Heading.
        introduction: What was done, in a sentence or two.
        verdict: The result in one line.
        outcome: Colours the verdict: green, red, or amber where nobody can tell.
        sections: In order.
        facts: Versions, machine and the like, shown at the end.

    Returns:
        HTML without any outside resource.
    """
    rows = ''.join(
        f'<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in facts.items()
    )
    page = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(introduction)}</p>
<p class="verdict {outcome}">{escape(verdict)}</p>
{''.join(map(_render_section, sections))}<h2>Made with</h2>
<table>
{rows}</table>
</body>
</html>
"""
    return page.encode(errors='backslashreplace').decode()  # as odd file names


def _render_section(section: Section) -> str:
    pictures = ''.join(map(_render_picture, section.pictures))
    tags = ['th'] + ['td'] * len(section.table)
    rows = ''.join(
        '<tr>' + ''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row) + '</tr>\n'
        for tag, row in zip(tags, section.table, strict=False)
    )
    return f"""\
<section>
<h2>{escape(section.title)}</h2>
<p>{escape(section.text)}</p>
{f'<table>{rows}</table>' if rows else ''}
{f'<div class="figures">{pictures}</div>' if pictures else ''}
<pre>{escape(section.command)}</pre>
<p class="time">{_duration(section.seconds)}</p>
</section>
"""


def _render_picture(picture: Picture) -> str:
    path = escape(picture.path.replace(':', '%3A'))  # no javascript:
    return (
        f'<figure><a href="{path}"><img src="{path}" alt="{escape(picture.alt)}"></a>'
        f'<figcaption>{escape(picture.caption)}</figcaption></figure>\n'
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f'took {minutes} min {seconds} s' if minutes else f'took {seconds} s'
