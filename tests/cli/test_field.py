"""docs/benchmarks_field.md is run as written, into a report."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.cli.run import ROOT, biaslab

PAGE = (ROOT / "docs" / "benchmarks_field.md").read_text(encoding="utf-8")
LINES = [
    shlex.split(line.removeprefix("python -m biaslab "))
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("line", LINES, ids=["four", "bbq"])
def test_the_lines_of_the_page_end_in_a_report(tmp_path: Path, data_dir: Path, line: list[str]) -> None:
    ended = biaslab(tmp_path, *line, env={"BIASLAB_DATA_DIR": str(data_dir)})
    assert ended.code == 0, ended
    (report,) = (tmp_path / "outputs" / "reports").glob("*/results.json")
    found = {b["name"] for b in json.loads(report.read_text())["benchmarks"]}
    asked = next(a for a in line if a.startswith("benchmark=")).removeprefix("benchmark=").strip("[]").split(",")
    assert found == set(asked)
    for path in (tmp_path / "outputs" / "results").rglob("cell.json"):
        cell = json.loads(path.read_text())
        assert (
            cell["coverage"]["n_valid"]
            + cell["coverage"]["n_refused"]
            + cell["coverage"]["n_unparsed"]
            + cell["coverage"]["n_too_long"]
            == cell["coverage"]["n_records"]
        )
        assert cell["benchmark"]["meta"]["content_warning"]


@pytest.mark.data
def test_a_category_that_is_not_here_is_one_line_that_says_how_to_go_on(tmp_path: Path, data_dir: Path) -> None:
    offline = {
        "BIASLAB_DATA_DIR": str(data_dir), "BIASLAB_CACHE_DIR": str(tmp_path), "https_proxy": "http://127.0.0.1:9",
    }  # fmt: skip
    if (data_dir / "benchmarks/bbq/data/SES.jsonl").is_file():
        pytest.skip("all categories are here")
    ended = biaslab(tmp_path, "benchmark=bbq", env=offline)
    assert ended.code == 2, ended
    assert "Race_ethnicity.jsonl: not here" in ended.err
    assert "or ask what is here: benchmark.bbq.categories=[Age,Disability_status,Gender_identity," in ended.err
    assert ended.err.count("\n") == 1
