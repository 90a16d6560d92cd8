"""The terminal: colours only where they are wanted, tables that fit, one line a benchmark."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from pathlib import Path

import pytest

from analysis.__main__ import run
from analysis.report import picture, terminal
from analysis.report.brief import brief
from analysis.settings import Settings
from analysis.study import Missing, Study
from tests.analysis.fake import make_sweep


class Terminal(io.StringIO):
    """What is written, of a stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal.coloured(Terminal())
    assert not terminal.coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "")  # empty counts as not set (no-color.org)
    assert terminal.coloured(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal.coloured(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.coloured(Terminal())


def test_a_run_is_coloured_on_a_terminal_and_plain_in_a_pipe(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, n_clusters=8, items_per_cluster=2, accels=("hqq4",))
    texts = []
    for stream in (Terminal(), io.StringIO()):
        run(sweep, tmp_path / "out", Settings(n_resamples=99), stream)
        texts.append(stream.getvalue())
    assert "\x1b[" in texts[0]
    assert "\x1b" not in texts[1]
    assert all(len(line) <= 120 for line in re.sub(r"\x1b\[\d*m", "", texts[0]).splitlines() if "outputs" not in line)


def test_colour_adds_nothing_but_colour(study: Study) -> None:
    shown = terminal.render(study, color=True)
    assert re.sub(r"\x1b\[\d*m", "", shown) == terminal.render(study)
    changed = [line for line in shown.splitlines() if "≠ changed" in line]
    assert changed
    assert all("\x1b[33m≠ changed" in line for line in changed)


def test_many_benchmarks_are_parted_into_tables_that_fit(study: Study) -> None:
    many = [dataclasses.replace(study.benchmarks[0], name=f"benchmark_{k:02d}") for k in range(12)]
    lines = terminal.render(dataclasses.replace(study, benchmarks=many), width=100).splitlines()
    heads = [line for line in lines if line.startswith("model ")]
    assert len(heads) > 1
    assert sorted(name for head in heads for name in head.split()[2:]) == [b.name for b in many]
    assert max(map(len, lines)) <= 100
    s = next(s for s in many[0].shifts if s.verdict == "changed")
    row = next(line for line in lines if line.split()[:2] == [s.model, s.accel])
    assert row.split()[2:4] == ["≠", f"{s.estimate.value:+.3g}"]
    assert "[" not in row


def test_a_long_reason_is_one_line_and_not_a_column_of_the_table(study: Study) -> None:
    b = study.benchmarks[0]
    s = b.shifts[0]
    estimate = dataclasses.replace(s.estimate, value=math.nan, ci_low=math.nan, ci_high=math.nan)
    gone = dataclasses.replace(s, verdict="missing", estimate=estimate)
    reason = "job 1: Slurm job 5_1 is lost " + 40 * "and so on "
    missing = [Missing(s.model, s.accel, name, "failed", reason, "greedy") for name in (b.name, "two", "three")]
    broken = dataclasses.replace(
        study, benchmarks=[dataclasses.replace(b, shifts=[gone, *b.shifts[1:]])], missing=missing
    )
    lines = terminal.render(broken, width=100).splitlines()
    assert max(map(len, lines)) <= 100
    told = [line for line in lines if "Slurm job" in line]
    assert len(told) == 1
    assert told[0].startswith(f"! {s.model} {s.accel} (3 cells): failed. job 1: Slurm job 5_1 is lost and so on")
    assert told[0].endswith("…")
    row = next(line for line in lines if line.split()[:2] == [s.model, s.accel])
    assert row.split()[2:] == ["!", "failed"]


def test_each_benchmark_is_one_sentence_with_its_figures(study: Study) -> None:
    b = study.benchmarks[0]
    judged = [s for s in b.shifts if s.verdict != "placebo"]
    far = max(judged, key=lambda s: abs(s.estimate.value))
    said = brief(study, b)
    assert said.startswith(f"One: {b.verdict} (p = {b.omnibus.p:.2g}). Of 6 cells ")
    for word in {s.verdict for s in judged}:
        assert f"{sum(s.verdict == word for s in judged)} {word}" in said
    e = far.estimate
    assert said.endswith(f"furthest: {far.model} under {far.accel}, {e.value:+.3g} log-odds "
                         f"[{e.ci_low:+.3g}, {e.ci_high:+.3g}].")  # fmt: skip
    assert said in " ".join(terminal.render(study, width=10_000).split())
    noted = dataclasses.replace(study, models={m: "a control" for m in study.models})
    assert f"{far.model} † under" in brief(noted, b)


def test_of_one_model_nothing_is_said_of_an_interaction(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, models=("tiny_llama",), n_clusters=8, items_per_cluster=2, accels=("hqq4",))
    study = run(sweep, tmp_path / "out", Settings(n_resamples=99), io.StringIO())
    assert brief(study, study.benchmarks[0]).startswith("Planted. Of 1 cell ")
    assert study.answer.endswith("; with one model nothing is said of whether it depends on the model.")


def test_a_benchmark_that_cannot_be_tested_says_why(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, n_clusters=4, items_per_cluster=2, accels=("hqq4",))
    stream = io.StringIO()
    study = run(sweep, tmp_path / "out", Settings(n_resamples=99), stream)
    said = brief(study, study.benchmarks[0])
    assert said.startswith(f"Planted: cannot be tested ({study.benchmarks[0].omnibus.reason}). Of 2 cells ")
    bare = dataclasses.replace(study.benchmarks[0], shifts=[])
    assert brief(study, bare).endswith(").")


def test_the_readmes_picture_is_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, n_clusters=8, items_per_cluster=2, accels=("hqq4",))
    out = tmp_path / "docs" / "picture.png"
    assert picture.main([f"results={sweep}", f"out={out}"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    first = out.read_bytes()
    assert first.startswith(b"\x89PNG")
    width, height = (int.from_bytes(first[k : k + 4], "big") for k in (16, 20))
    assert (width > 1000, height > 300) == (True, True)
    assert picture.main([f"results={sweep}", f"out={out}"]) == 0
    assert out.read_bytes() == first  # so that a README's picture changes only when its numbers do


@pytest.mark.parametrize("words", [[], ["results=x"], ["results=x", "out=y", "z"], ["results=/no/such", "out=y"]])
def test_a_wrong_word_to_the_picture_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert picture.main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err
