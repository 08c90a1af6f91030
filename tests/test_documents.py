"""What the documents point at is there: files, and headings in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^(```.*?^```|(?:(?: {4}|\t)[^\n]*\n)+)", re.DOTALL | re.MULTILINE)


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return _FENCED.sub("", document.read_text(encoding="utf-8"))


def headings(document: Path) -> set[str]:
    """Names by which a page's headings are linked to, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        place, _, heading = link.partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        target = (document.parent / place) if place else document
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(link)
    assert not broken


def test_every_design_note_is_listed_once_and_has_a_number_of_its_own() -> None:
    notes = sorted(path.name for path in (ROOT / "docs" / "design").glob("0*.md"))
    listed = re.findall(r"\]\((0[^)]+)\)", (ROOT / "docs" / "design" / "README.md").read_text(encoding="utf-8"))
    assert listed == notes
    assert len({name[:4] for name in notes}) == len(notes)
