"""docs/own_data.md is run as written; wrong lines about a user's own file are one line and code 2."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.run import ROOT, biaslab

PAGE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:csv|jsonl) (\S+)\n(.*?)```", PAGE, re.DOTALL))
LINES = [shlex.split(line) for line in re.findall(r"```bash\npython -m biaslab (.*?)\n```", PAGE, re.DOTALL)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("mine")
    for name, content in FILES.items():
        (made / name).write_text(content, encoding="utf-8")
    return made


def test_the_page_has_three_files_and_a_line_for_each() -> None:
    assert list(FILES) == ["stereotypes.csv", "phones.jsonl", "stories.csv"]
    assert [next(a for a in line if "file=" in a).split("=")[1] for line in LINES] == list(FILES)


def test_the_worked_example_ends_in_a_report_that_names_the_file(folder: Path) -> None:
    ended = biaslab(folder, *LINES[0])
    assert ended.code == 0, ended
    assert ended.out.count("] + ") == 6
    assert "pairs(stereotypes)" in ended.out
    (report,) = (folder / "outputs" / "reports").glob("*/report.html")
    assert "stereotypes.csv (sentence pairs)" in report.read_text(encoding="utf-8")
    cells = list((folder / "outputs" / "results" / "pairs(stereotypes)").rglob("cell.json"))
    assert len(cells) == 6
    cell = json.loads(cells[0].read_text())
    assert {m for m in cell["metrics"] if m.startswith("mean_score")} == {
        "mean_score", "mean_score/jobs", "mean_score/home",
    }  # fmt: skip
    assert "stereotypes.csv" not in json.dumps(cell["identity"])
    again = biaslab(folder, *LINES[0], "analysis=skip")
    assert "nothing was computed" in again.out


@pytest.mark.slow
@pytest.mark.parametrize(("line", "label", "n"), [(1, "choices(phones)", 2), (2, "prompts(stories)", 2)])
def test_the_other_lines_of_the_page(folder: Path, line: int, label: str, n: int) -> None:
    ended = biaslab(folder, *LINES[line])
    assert ended.code == 0, ended
    cells = list((folder / "outputs" / "results" / label).rglob("records.parquet"))
    assert len(cells) == 2
    assert all(len(pd.read_parquet(path)) == n for path in cells)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["benchmark.pairs.columns.more=expcted"], "benchmark.pairs.columns.more=expcted: stereotypes.csv has no such"),
        (["benchmark.pairs.columns.mroe=x"], "benchmark.pairs.columns.mroe: no such key (did you mean more?)"),
    ],
)
def test_a_wrong_line_is_one_line_and_code_2(folder: Path, args: list[str], message: str) -> None:
    ended = biaslab(folder, "benchmark=pairs", "benchmark.pairs.file=stereotypes.csv", *args)
    assert ended.code == 2, ended
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_names_of_ones_own_need_a_plus(folder: Path) -> None:
    patterns = 'benchmark.prompts.patterns={he: "\\bhe\\b"}'
    line = ["benchmark=prompts", "benchmark.prompts.file=stories.csv", "benchmark.prompts.scorer=patterns"]
    ended = biaslab(folder, *line, patterns)
    assert ended.code == 2
    assert "needs a plus before the key, +benchmark.prompts.patterns=..." in ended.err
    ended = biaslab(folder, *line, f"+{patterns}", "dry_run=true")
    assert ended.code == 0, ended
