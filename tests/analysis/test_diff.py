"""python -m analysis diff: verdicts of two reports side by side, with exit codes a script can use."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from analysis.__main__ import main
from analysis.verbs.diff import _alpha, cells, compare
from tests.analysis.fake import make_sweep

SMALL: dict[str, Any] = {"n_clusters": 12, "items_per_cluster": 4, "accels": ("hqq4", "wanda50"), "noise": 0.05}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of three sweeps: one, one with a shift planted into its last model, one that lacks an accelerator."""
    out = {}
    made = {"plain": {"shift": 0.0}, "moved": {"shift": 0.0, "interaction": 0.8},
            "fewer": {"shift": 0.0, "accels": ("hqq4",)}}  # fmt: skip
    for name, words in made.items():
        sweep = make_sweep(tmp_path_factory.mktemp(name), **(SMALL | words))
        assert main([f"results={sweep}", "n_resamples=99"]) == 0
        out[name] = sweep.parent.parent / "reports" / "fake"
    return out


def diff(capsys: pytest.CaptureFixture[str], *words: object, code: int) -> str:
    capsys.readouterr()
    assert main(["diff", *map(str, words)]) == code
    return capsys.readouterr().out


def test_a_report_does_not_differ_from_itself(reports: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = diff(capsys, reports["plain"], reports["plain"] / "results.json", code=0)
    assert out == "0 of 4 cells in both and 0 of 1 benchmark changed verdict; 0 cells in one only\n"
    assert len(diff(capsys, reports["plain"], reports["plain"], "rows=all", code=0).splitlines()) == 2 + 4 + 1


def test_changed_verdicts_are_listed_with_what_moved(reports: dict[str, Path], tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    out = diff(capsys, reports["plain"], reports["moved"], f"json={tmp_path / 'd.json'}", code=4)
    a, b = (json.loads((reports[n] / "results.json").read_text()) for n in ("plain", "moved"))
    x, y = (next(s for s in r["benchmarks"][0]["shifts"] if (s["model"], s["accel"]) == ("tiny_mistral", "hqq4"))
            for r in (a, b))  # fmt: skip
    assert x["verdict"] != y["verdict"] == "changed"
    [row] = [line for line in out.splitlines() if "tiny_mistral" in line]
    assert row.split()[:3] == ["planted", "tiny_mistral", "hqq4"]
    moved = y["estimate"]["value"] - x["estimate"]["value"]
    assert f"{moved:+.3g} [" in row
    assert re.search(r"planted: \w+ \(p = [\d.]+\) in A, interaction \(p = [\d.]+\) in B", out)
    content = json.loads((tmp_path / "d.json").read_text())
    assert len(content["cells"]) == 4
    assert [c["moved"] for c in content["cells"] if c["verdict_a"] != c["verdict_b"]] == [pytest.approx(moved)]
    assert content["benchmarks"][0]["verdict_b"] == "interaction"


def test_cells_of_one_report_only_are_named_and_have_a_code(reports: dict[str, Path],
                                                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    out = diff(capsys, reports["fewer"], reports["plain"], code=3)
    assert "only in B: tiny_llama under wanda50 on planted" in out
    assert "2 cells in one only" in out
    assert "only in A" in diff(capsys, reports["plain"], reports["fewer"], code=3)


def test_sweeps_are_analysed_and_settings_that_differ_are_said(reports: dict[str, Path],
                                                               capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    sweep = reports["plain"].parent.parent / "sweeps" / "fake"
    assert "!" not in diff(capsys, sweep, reports["plain"], "n_resamples=99", code=0)
    out = diff(capsys, sweep, reports["plain"], "n_resamples=99", "alpha=0.0501", code=0)
    assert out.splitlines()[0] == "! alpha: 0.0501 in A, 0.05 in B"


def test_the_interval_of_what_moved_is_welchs() -> None:
    def cell(value: float, se: float, clusters: int) -> dict[str, Any]:
        estimate = {"value": value, "se": se, "ci_low": None, "n_clusters": clusters, "df": clusters - 1}
        return {"verdict": "changed", "unit": "u", "estimate": estimate}

    found = compare(("b", "greedy", "other", "m", "a"), cell(0.2, 0.1, 10), cell(0.7, 0.3, 25))
    # scipy's Welch t interval from the same means, deviations and sizes.
    test = stats.ttest_ind_from_stats(0.7, 0.3 * 5, 25, 0.2, 0.1 * math.sqrt(10), 10, equal_var=False)
    df = (0.01 + 0.09) ** 2 / (0.01**2 / 9 + 0.09**2 / 24)
    half = stats.t.ppf(0.975, df) * math.sqrt(0.1)
    assert test.pvalue == pytest.approx(2 * stats.t.sf(0.5 / math.sqrt(0.1), df))  # the same degrees of freedom
    assert (found.moved, found.moved_low, found.moved_high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    still = compare(("b", "greedy", "other", "m", "a"), cell(0.0, 0.0, 10), cell(0.0, 0.0, 10))
    assert (still.moved, still.moved_low, still.moved_high) == (0, 0, 0)


def test_an_older_report_without_some_fields_is_still_read(reports: dict[str, Path], tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    content = json.loads((reports["plain"] / "results.json").read_text())
    for b in content["benchmarks"]:
        del b["pool"], b["power"]
        for s in b["shifts"]:
            del s["estimate"]["df"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert len(cells(content)) == 4
    assert "4 cells in both" not in diff(capsys, tmp_path / "old.json", reports["plain"], code=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read as JSON"), ('{"schema_version": 9}', "of schema_version 1 is needed, found 9"),
     ("[]", "is needed, found None")],
)  # fmt: skip
def test_a_file_that_is_no_report_is_refused(content: str, message: str, tmp_path: Path, reports: dict[str, Path],
                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (tmp_path / "bad.json").write_text(content)
    capsys.readouterr()
    assert main(["diff", str(tmp_path / "bad.json"), str(reports["plain"])]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_wrong_words(reports: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["a"], "diff takes two"),
        (["a", "rows=all"], "diff takes two"),
        ([reports["plain"], reports["plain"], "rows=some"], "rows=some: choose one of changed, all"),
        (["/no/such", reports["plain"]], "no such"),
    ):
        assert main(["diff", *map(str, words)]) == 2
        assert message in capsys.readouterr().err


def test_escape_codes_are_made_visible(reports: dict[str, Path], tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    content = json.loads((reports["plain"] / "results.json").read_text())
    content["benchmarks"][0]["shifts"][0]["model"] = "\x1b[2Jgone"
    (tmp_path / "bad.json").write_text(json.dumps(content))
    out = diff(capsys, tmp_path / "bad.json", reports["plain"], code=3)
    assert "\x1b" not in out
    assert r"only in A: \x1b[2Jgone under" in out


@pytest.mark.parametrize(
    "text",
    [
        '{"schema_version": 1, "benchmarks": [{}]}',
        '{"schema_version": 1, "benchmarks": [], "settings": 3}',
        "[" * 100_000,
        '{"schema_version": 1, "benchmarks": [{"name": "x", "unit": "u", "verdict": "a", "omnibus": {}, "shifts": '
        '[{"model": "m", "accel": "a", "verdict": "v", "estimate": {"value": "x"}}]}]}',
    ],
)
def test_a_broken_report_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    assert main(["diff", str(file), str(file)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)


def test_the_interval_has_the_reports_own_level(tmp_path: Path) -> None:
    estimate = {"value": 1.0, "se": 0.5, "ci_low": 0.0, "ci_high": 2.0, "n_clusters": 10, "df": None}
    report = {"settings": {"alpha": 0.01}}
    assert (_alpha(report, report), _alpha(report, {"settings": {}})) == (0.01, 0.05)
    cell = {"estimate": estimate, "unit": "u", "verdict": "v"}
    wide, plain = (compare(("b", "greedy", "other", "m", "a"), cell, cell, alpha=a) for a in (0.01, 0.05))
    df, se = 18, 0.5 * 2**0.5  # Welch's with equal errors of 9 degrees of freedom
    assert wide.moved_high == pytest.approx(stats.t.ppf(0.995, df) * se)
    assert plain.moved_high == pytest.approx(stats.t.ppf(0.975, df) * se)
