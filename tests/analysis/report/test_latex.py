"""tables.tex: booktabs tables with intervals, captions, n and units; compiled where a LaTeX is found."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.report import latex
from analysis.study import Missing, Study
from tests.analysis.report.conftest import HOSTILE

DOCUMENT = r"""\documentclass{article}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,longtable}
\begin{document}
\input{tables.tex}
\end{document}
"""
TEX = (
    '50% of $x_1$ & #2 {a} \\input{/etc/passwd} ^~ "q" <b> | *star* [opt] -- é × ≤ † \U0001f600 \u202eevil\u202c'
    " \x1b[2J"
)


def compiled(text: str, folder: Path) -> str:
    """The log of two runs, that of longtables; skips, saying so, where no LaTeX is found."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex found: the structure of tables.tex is tested, that it compiles is not")
    (folder / "tables.tex").write_text(text, encoding="utf-8")
    (folder / "paper.tex").write_text(DOCUMENT, encoding="utf-8")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    return (folder / "paper.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def hostile(study: Study) -> Study:
    """The study with what LaTeX would run, or could not set, wherever text from outside can stand."""
    name = {"alpha": TEX, "beta": HOSTILE}.get
    benchmarks = [
        dataclasses.replace(
            b, title=TEX, unit=TEX, direction=TEX,
            shifts=[dataclasses.replace(s, model=name(s.model, s.model), accel=TEX) for s in b.shifts],
            differences=[dataclasses.replace(d, model=name(d.model, d.model)) for d in b.differences],
            flips=[dataclasses.replace(f, model=name(f.model, f.model)) for f in b.flips],
        )
        for b in study.benchmarks
    ]  # fmt: skip
    missing = [Missing(TEX, HOSTILE, "one", "failed", TEX)]
    return dataclasses.replace(study, benchmarks=benchmarks, missing=missing, sweep="a\n\\bye", command="%\r\\bye",
                               models={TEX: TEX, HOSTILE: "", "gamma": ""})  # fmt: skip


def rows(text: str, label: str) -> list[list[str]]:
    """The cells of one table's body."""
    body = text.split(rf"\label{{tab:{label}}}")[1].split(r"\endfoot")[1].split(r"\end{longtable}")[0]
    return [line.removesuffix(r" \\").split(" & ") for line in body.strip().splitlines()]


def number(text: str) -> float:
    """A number set in maths, read again."""
    return float(re.sub(r"\\times10\^\{(-?\d+)\}", r"e\1", text))


def test_shifts_carry_their_intervals_n_and_units(study: Study) -> None:
    text = latex.render(study)
    b = study.benchmarks[0]
    found = rows(text, "shifts-1")
    assert len(found) == len(b.shifts)
    for cells, s in zip(found, b.shifts, strict=True):
        e = s.estimate
        assert cells[:2] == [s.model, s.accel.replace("_", r"\_")]
        assert number(cells[2][1:-1]) == pytest.approx(e.value, rel=5e-3)
        low, high = cells[3].removeprefix("$[").removesuffix("]$").split(r",\ ")
        assert (number(low), number(high)) == pytest.approx((e.ci_low, e.ci_high), rel=5e-3)
        assert cells[-1] == s.verdict
    caption = re.search(r"\\caption\{(Shifts from.*?)\}\\label\{tab:shifts-1\}", text)
    assert caption is not None
    for said in ("One", "log{-}odds", "$n=60$ items in 12 clusters", r"95\,\% intervals", "stereotyped group"):
        assert said in caption[1]


def test_every_table_is_a_booktabs_table_of_even_rows(study: Study) -> None:
    text = latex.render(study)
    labels = re.findall(r"\\label\{tab:([a-z0-9-]+)\}", text)
    parts = [f"{kind}-{k}" for k in (1, 2) for kind in ("shifts", "differences", "flips", "power")]
    assert labels == ["verdicts-1", "interaction", "predictability", *parts, "cost"]
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == (1 if rule == "bottomrule" else 2) * len(labels)
    for label in labels:
        columns = re.search(rf"longtable\}}\{{@\{{\}}([lr]+)@\{{\}}\}}\n\\caption.*\\label\{{tab:{label}\}}", text)
        assert columns is not None, label
        assert {len(cells) for cells in rows(text, label)} == {len(columns[1])}, label
    p = study.benchmarks[0].omnibus.p
    assert rows(text, "interaction")[0][1] == f"${p:.2g}$"


def test_it_compiles(study: Study, tmp_path: Path) -> None:
    log = compiled(latex.render(study), tmp_path)
    assert "Overfull" not in log
    assert "undefined" not in log


def test_hostile_names_are_set_as_they_read(hostile: Study, tmp_path: Path) -> None:
    text = latex.render(hostile)
    assert not re.search(r"(?<!\\textbackslash\{\})\\input", text)
    assert "\n\\bye" not in text
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)
    assert "{[}U+202E{]}" in text
    compiled(text, tmp_path)


def test_long_names_get_smaller_type_and_stay_on_the_page(study: Study, tmp_path: Path) -> None:
    b = study.benchmarks[0]
    name, accel = "organisation/some-model-8b-instruct", "wanda50(calibration.seed=1)+hqq4(group_size=32)"
    long = dataclasses.replace(b, shifts=[dataclasses.replace(s, model=name, accel=accel) for s in b.shifts])
    text = latex.render(dataclasses.replace(study, benchmarks=[long]))
    assert "scriptsize" in text.split(r"\label{tab:shifts-1}")[0].rsplit(r"\begingroup", 1)[1]
    wide = [float(w) for w in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide", compiled(text, tmp_path))]
    assert max(wide, default=0.0) < 5


def test_what_is_not_known_is_a_dash_and_empty_tables_are_left_out(study: Study) -> None:
    gone = dataclasses.replace(
        study.benchmarks[0].shifts[0].estimate, value=math.nan, ci_low=math.nan, p_adjusted=math.nan
    )
    b = dataclasses.replace(
        study.benchmarks[0], shifts=[dataclasses.replace(study.benchmarks[0].shifts[0], estimate=gone)], differences=[],
        flips=[], power=[], predictability=None,
    )  # fmt: skip
    text = latex.render(dataclasses.replace(study, benchmarks=[b], arms=[]))
    assert rows(text, "shifts-1")[0][2:5] == ["---", "---", "---"]
    assert "nan" not in text
    assert re.findall(r"\\label\{tab:([a-z0-9-]+)\}", text) == ["verdicts-1", "interaction", "shifts-1"]


def test_many_benchmarks_are_parted_over_overviews(study: Study) -> None:
    many = dataclasses.replace(study, benchmarks=[study.benchmarks[0]] * 9)
    text = latex.render(many)
    assert [len(rows(text, f"verdicts-{k}")[0]) for k in (1, 2, 3)] == [6, 6, 3]
