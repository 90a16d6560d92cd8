"""The pages build into a site: a dead link stops the build, and no page asks another server for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs import pages

pytest.importorskip("myst_parser", reason="needs the extra docs: make docs")
pytestmark = pytest.mark.extras

#: Attributes that make a browser fetch something by itself; a link is only followed when it is clicked.
FETCHES = {"src", "srcset", "data", "poster", "action"}


class Fetched(HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        wanted = FETCHES | ({"href"} if tag in ("link", "image", "use") else set())
        self.found += [value for name, value in values.items() if name in wanted and value]
        self.found += re.findall(r"url\(([^)]*)\)", values.get("style") or "")


def elsewhere(file: Path) -> list[str]:
    """What a file of the site makes a browser ask other servers for."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".css":
        found = re.findall(r"url\(\s*['\"]?([^'\")]*)|@import\s+['\"]([^'\"]*)", text)
        asked = [a or b for a, b in found]
    else:
        parser = Fetched()
        parser.feed(text)
        asked = parser.found
    return [value for value in asked if re.match(r"(https?:)?//", value.strip())]


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(source / "docs")]
    return subprocess.run(
        [*command, "-d", str(out / "doctrees"), str(source), str(out / "site")],
        capture_output=True, text=True, cwd=pages.ROOT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    done = build(pages.ROOT, out)
    assert done.returncode == 0, done.stderr
    return out / "site"


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    for page in (pages.ROOT / "docs").glob("*.md"):
        assert (site / "docs" / f"{page.stem}.html").is_file()
        assert f'href="docs/{page.stem}.html"' in front, page.name


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    files = [file for file in site.rglob("*") if file.suffix in (".html", ".css", ".svg")]
    assert len(files) > 20
    assert {file.name: found for file in files if (found := elsewhere(file))} == {}


def test_a_fetch_is_found(tmp_path: Path) -> None:
    page, style = tmp_path / "page.html", tmp_path / "style.css"
    page.write_text(
        '<link href="https://fonts.example/x"><script src="//cdn.example/y"></script><a href="https://z">z</a>'
    )
    style.write_text(
        '@import "https://a.example/b"; @font-face { src: url(https://c.example/d.woff) } a { b: url(e.png) }'
    )
    assert elsewhere(page) == ["https://fonts.example/x", "//cdn.example/y"]
    assert elsewhere(style) == ["https://a.example/b", "https://c.example/d.woff"]


def test_the_reference_comes_from_docstrings(site: Path) -> None:
    text = (site / "docs" / "reference.html").read_text(encoding="utf-8")
    for name in ("biaslab.benchmarks.base.Benchmark.score", "biaslab.accel.base.Accelerator.apply"):
        assert f'id="{name}"' in text
    assert "what a positive score means" in text


@pytest.mark.parametrize("link", ["[gone](gone.md)", "[gone](other.md#no-such-heading)"])
def test_a_link_that_leads_nowhere_stops_the_build(tmp_path: Path, link: str) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(pages.ROOT / "docs" / "conf.py", tmp_path / "docs")
    (tmp_path / "README.md").write_text("# Front\n\n[other](docs/other.md)\n")
    (tmp_path / "docs" / "other.md").write_text("# Other\n")
    assert build(tmp_path, tmp_path / "whole").returncode == 0
    (tmp_path / "docs" / "other.md").write_text(f"# Other\n\n{link}\n")
    broken = build(tmp_path, tmp_path / "broken")
    assert broken.returncode != 0
    assert "other.md:3: WARNING" in broken.stderr
