"""The page in docs/ is what the command writes, and the command needs nothing but the package."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.errors import AnalysisError
from analysis.paper import page
from analysis.verbs import paper

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_in_docs_is_current() -> None:
    written = (DOCS / "paper_table.md").read_text(encoding="utf-8")
    assert written == page.markdown(), "python -m analysis paper page=docs/paper_table.md"


def test_the_tables_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("worldbench, chat"))
    assert row.split()[2:6] == ["3", "x", "6", "0.89"]
    assert "IN PART: the effects of acceleration on bias are complex and unpredictable" in out


def test_help_and_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "--help"]) == 0
    assert "Exit codes: 0 every compared cell agrees" in capsys.readouterr().out
    assert main(["paper", "tables=2"]) == 2
    assert main(["paper", "alpha=0.01"]) == 2
    assert "paper takes results=, csv=, page= and no settings" in capsys.readouterr().err
    assert main(["paper", "csv=x.csv"]) == 2
    assert "give results= too" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnalysisError, match="page="):
        paper.main([f"page={tmp_path}/file/x.md"], io.StringIO())
