"""docs/notebook.ipynb runs from top to bottom and shows what its text says."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


def shown(source: str, names: dict[str, Any]) -> str:
    """What a notebook would show of a cell: the HTML of its last expression, or its text."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if last is None:
        return ""
    value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    return str(value._repr_html_() if hasattr(value, "_repr_html_") else value)


def test_it_is_kept_without_outputs() -> None:
    code = [c for c in cells() if c["cell_type"] == "code"]
    assert len(code) > 8
    assert all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    assert len({c["id"] for c in cells()}) == len(cells())


@pytest.mark.slow
def test_its_cells_run_and_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = {}
    for cell in cells():
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            outputs[source.strip().splitlines()[-1]] = shown(source, names)
    assert names["interaction"].verdict == "interaction"
    assert 'src="data:image/svg+xml;base64,' in outputs["interaction"]
    assert names["result"].report.is_file()
    assert len(names["result"].failed) == 0
    own, row = names["own"], names["row"]
    assert own == pytest.approx((row["ci_low"], row["ci_high"]), abs=0.01)  # two ways to one interval
    naive = names["naive"]
    assert naive.high - naive.low < row["ci_high"] - row["ci_low"]
    said = capsys.readouterr().out
    assert "model=tiny_lama: no such choice (did you mean tiny_llama?)" in said


@pytest.mark.extras
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # a foreign library's own
def test_a_kernel_runs_it_and_shows_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    html = [
        "".join(o["data"]["text/html"])
        for c in book.cells if c.cell_type == "code"
        for o in c.outputs if "text/html" in o.get("data", {})
    ]  # fmt: skip
    assert any('<progress value="8" max="8">' in text for text in html)  # a shared baseline is one cell
    assert any('src="data:image/svg+xml;base64,' in text for text in html)
