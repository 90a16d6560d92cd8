"""CITATION.cff says what the format asks for, and the version and licence that the package has."""

from __future__ import annotations

import tomllib

import yaml

from biaslab import __version__
from tests.docs.pages import ROOT


def test_the_citation_is_whole_and_current() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license", "type"} <= set(cited)
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software"
    assert all(author.get("name") or author.get("family-names") for author in cited["authors"])
    assert cited["version"] == __version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["license"] == project["license"]
    (paper,) = cited["references"]
    assert {"type", "title", "authors", "year"} <= set(paper)
    assert len(paper["authors"]) == 4
