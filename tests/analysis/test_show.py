"""python -m analysis show: any table, from a report's folder or from results."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main
from analysis.arguments import parse_words
from analysis.verbs import show
from tests.analysis.fake import make_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("show"), n_clusters=8, items_per_cluster=3, accels=("hqq4", "wanda50"))


@pytest.fixture(scope="module")
def report(sweep: Path) -> Path:
    assert main([f"results={sweep}", "n_resamples=99"]) == 0
    return sweep.parent.parent / "reports" / "fake"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def shown(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> list[list[str]]:
    capsys.readouterr()
    assert main(["show", *map(str, words)]) == code
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_without_a_name_it_lists_every_table(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, f"report={report}")
    names = {line[0] for line in lines[3:]}
    files = [*(report / "tables").glob("*.csv"), *(report / "figures").glob("*.csv")]
    assert names == {path.stem for path in files}
    assert ["shifts", "4"] in [line[:2] for line in lines]


def test_a_table_shows_the_reports_numbers(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "shifts", f"report={report}", "columns=model,accel,value,verdict")
    with (report / "tables" / "shifts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert lines[0] == ["model", "accel", "value", "verdict"]
    assert lines[2:] == [[r["model"], r["accel"], f"{float(r['value']):.4g}", r["verdict"]] for r in rows]


def test_rows_are_filtered_and_sorted_by_number(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sign, down in (("", False), ("-", True)):
        lines = shown(capsys, "shifts", f"report={report}", "columns=value", f"sort={sign}value")
        values = [float(line[0]) for line in lines[2:]]
        assert values == sorted(values, reverse=down)
        assert len(values) == 4
    lines = shown(capsys, "shifts", f"report={report}", "columns=model,accel", "rows=LLAMA wanda")
    assert lines[2:] == [["tiny_llama", "wanda50"]]
    assert shown(capsys, "shifts", f"report={report}", "columns=model", "rows=nobody")[-1] == "0 of 4 rows".split()


def test_results_are_analysed_and_figures_are_tables_too(
    sweep: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["01-forest", "columns=model,accel,value,margin"]
    first = shown(capsys, *words, f"results={sweep}", "n_resamples=99")
    assert first == shown(capsys, *words, f"report={report}")
    assert len(first) == 6


def test_the_newest_report_is_the_default(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["show"]) == 2
    assert capsys.readouterr().err == "error: report= or results= is needed: no report in outputs/reports\n"
    (tmp_path / "outputs" / "reports").mkdir(parents=True)
    (tmp_path / "outputs" / "reports" / "x").symlink_to(report)
    assert shown(capsys)[0] == ["report=outputs/reports/x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shfts"], "shfts: no such table; did you mean shifts? choose from adjusted, "),
        (["shifts", "columns=modle"], "columns=modle: no such column of shifts; did you mean model? choose from"),
        (["shifts", "sort=-size"], "sort=size: no such column of shifts; "),
        (["shifts", "results=x"], "results= and report=: give one of them"),
        (["shifts", "row=x"], "row: unknown; did you mean rows?"),
        (["shifts", "means"], "'means': write key=value"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], message: str, report: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    capsys.readouterr()
    assert main(["show", *words, f"report={report}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_folder_that_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "shifts", f"report={tmp_path}"]) == 2
    assert "no report there" in capsys.readouterr().err


def test_a_terminal_shows_the_columns_that_fit_and_names_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "30")
    table = show.Shown("t", ("model", "value", "reason"), [("a" * 20, "0.123456", "b" * 40)])
    request = parse_words([], show.OWN)
    lines = show.view(table, request, Terminal()).splitlines()
    assert lines[0].split() == ["model", "value"]
    assert lines[2].split() == ["a" * 20, "0.1235"]
    assert lines[3] == "columns that do not fit: reason"
    assert "reason" in show.view(table, request, io.StringIO()).splitlines()[0]


def test_escape_codes_in_a_table_are_made_visible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "r" / "tables"
    folder.mkdir(parents=True)
    (folder / "shifts.csv").write_text("model\x1b[31m,value\n\x1b[2Jgone\x07,1.5\n")
    lines = shown(capsys, "shifts", f"report={tmp_path / 'r'}")
    assert lines[0] == [r"model\x1b[31m", "value"]
    assert lines[2] == [r"\x1b[2Jgone\x07", "1.5"]


def test_a_broken_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder: Any = tmp_path / "r" / "tables"
    folder.mkdir(parents=True)
    (folder / "shifts.csv").write_text("model,value\na\n")
    assert main(["show", "shifts", f"report={tmp_path / 'r'}"]) == 2
    assert "not a table with a header and even rows" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a,b\n" + b"x" * 200_000 + b",1\n"])
def test_a_broken_table_is_one_line(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_bytes(content)
    assert main(["show", "a", f"report={tmp_path}"]) == 2
    err = capsys.readouterr().err
    assert "a.csv: cannot be read as a table" in err
    assert err.count("\n") == 1
