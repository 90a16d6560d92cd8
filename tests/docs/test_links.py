"""Every link and picture of the pages leads to a file, every anchor to a heading; other sites are not asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import pages


def broken(page: Path) -> list[str]:
    found = []
    for line, target in pages.links(page):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists():
            found.append(f"{page.name}:{line}: {target}: no such file")
        elif anchor and anchor not in pages.anchors(there):
            found.append(f"{page.name}:{line}: {target}: no such heading")
    return found


@pytest.mark.parametrize("page", pages.PAGES, ids=pages.name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n[a](#a-page) [b](#b-page) [c](gone.md) ![d](page.md#a-page) [e](page.md#none)\n"
        "[f](http://insecure.example)\n\n```\n[in code](gone.md)\n```\n\n    [in code](gone.md)\n"
    )
    assert [line.split(": ", 1)[1] for line in broken(page)] == [
        "#b-page: no such heading",
        "gone.md: no such file",
        "page.md#none: no such heading",
        "http://insecure.example: no such file",
    ]


def test_every_page_is_listed() -> None:
    """In docs/README.md, which is what a browser shows of the folder."""
    index = pages.ROOT / "docs" / "README.md"
    listed = {(index.parent / target).resolve() for _, target in pages.links(index)}
    assert set((pages.ROOT / "docs").glob("*.md")) - listed - {index} == set()
