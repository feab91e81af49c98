"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ('*.md', 'docs/*.md', 'configs/*/README.md')
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize('document', DOCUMENTS, ids=str)
def test_links_and_commands(document):
    text = (ROOT / document).read_text(encoding='utf-8')
    links = {
        link.partition('#')[0]
        for link in re.findall(r'\]\((?!https?://)([^)#]+)', text)
    }
    files = set(re.findall(r'\b(?:tools|configs)/[\w./-]+\.(?:py|sh)\b', text))
    assert links or files
    missing = [
        link for link in links if not (ROOT / document).parent.joinpath(link).exists()
    ]
    missing += [file for file in files if not (ROOT / file).exists()]
    assert not missing


def test_every_method_has_a_readme():
    folders = {path.parent for path in (ROOT / 'configs').glob('[!_]*/*.py')}
    assert folders
    assert all((folder / 'README.md').exists() for folder in folders)
