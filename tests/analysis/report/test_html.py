"""The page's own parts: first screen, matrix, tables, sizes. What a browser does with them is in tests/browser."""

from __future__ import annotations

import base64
import csv
import dataclasses
import doctest
import hashlib
import io
import math
import re
from html.parser import HTMLParser

import pytest

from analysis.report import first, html, html_table, layers
from analysis.report.html_table import heading, row_limit, shown, table_html
from analysis.report.tables import Table, all_tables
from analysis.study import BenchmarkResult, Missing, Study

MISSING = [
    Missing("beta", "hqq4", "one", "missing", "not run"),
    Missing("beta", "awq4", "one", "failed", "out of memory", "greedy"),
    Missing("beta", "awq4", "two", "failed", "out of memory", "sampled"),
    Missing("beta", "awq4", "three", "failed", "NaN"),
]


class Cells(HTMLParser):
    """Rows of the first table: text and data-v of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(["", dict(attrs).get("data-v", "text") or ""])

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1][0] += data


def test_gaps_are_grouped_by_arm_and_reason_failures_first(study: Study) -> None:
    gaps = first.gaps(dataclasses.replace(study, missing=MISSING))
    assert [(g.accel, g.reason, g.text) for g in gaps] == [
        ("awq4", "out of memory", "failed on one and two (sampled)"),
        ("awq4", "NaN", "failed on three"),
        ("hqq4", "not run", "missing on one"),
    ]


def test_lines_are_only_given_for_a_sweep_of_our_own(study: Study) -> None:
    gone = dataclasses.replace(study, missing=MISSING)
    assert first.retry_line(gone) == "python -m biaslab retry outputs/sweeps/fake"
    assert first.retry_line(study) == ""
    imported = dataclasses.replace(gone, command="")
    assert first.retry_line(imported) == first.again_line(imported) == ""
    assert "python -m biaslab retry" not in html.render(imported)
    assert "says of no line which made them" in html.render(imported)
    hostile = dataclasses.replace(gone, sweep="x; rm -rf ~")
    assert first.retry_line(hostile) == "python -m biaslab retry 'outputs/sweeps/x; rm -rf ~'"


def test_facts_count_accelerators_apart_from_placebos(study: Study) -> None:
    assert first.facts(study) == "3 models · 2 accelerators · 1 placebo · 2 benchmarks · 2026-11-24"


def test_what_failed_comes_before_the_matrix_and_is_in_it(study: Study) -> None:
    shift = study.benchmarks[0].shifts[0]
    gone = dataclasses.replace(
        shift, verdict="missing", valid=False,
        estimate=dataclasses.replace(shift.estimate, value=math.nan, ci_low=math.nan, ci_high=math.nan),
    )  # fmt: skip
    b = dataclasses.replace(study.benchmarks[0], shifts=[gone, *study.benchmarks[0].shifts[1:]])
    failed = Missing(shift.model, shift.accel, b.name, "failed", "logits hold NaN")
    changed = dataclasses.replace(study, benchmarks=[b, *study.benchmarks[1:]], missing=[failed])
    found = html.matrix(changed)
    assert found is not None
    mark = found.rows[0].cells[0][0]
    assert (mark.word, mark.sign, mark.kind, mark.numbers) == ("failed", "!", "missing", "logits hold NaN")
    page = html.render(changed)
    assert page.index('id="answer"') < page.index('id="gone"') < page.index('class="matrix')
    assert "1 cell is not there" in page


def test_an_arrow_needs_a_direction_and_a_change(study: Study) -> None:
    for direction in ("positive: stereotyped", None):
        whole = dataclasses.replace(
            study, benchmarks=[dataclasses.replace(b, direction=direction) for b in study.benchmarks]
        )
        found = html.matrix(whole)
        assert found is not None
        marks = [m for row in found.rows for cell in row.cells for m in cell]
        shifts = {(b.title, s.estimate.value): s for b in study.benchmarks for s in b.shifts}
        assert len(marks) == len(shifts)
        for mark in marks:
            arrow = "▲" if mark.value.startswith("+") else "▼"
            assert mark.arrow == (arrow if mark.kind == "changed" and direction else "")
            assert mark.sign == html.SIGNS[mark.word]
        assert {m.arrow for m in marks} == ({"▲", ""} if direction else {""})


def test_a_table_shows_short_numbers_and_keeps_whole_ones() -> None:
    rows = [("a", 0.123456789, 12345, math.nan, True, 1e-7), ("=b", -2.0, 3, 0.5, False, 0.04)]
    table = Table("t", "T", ("model", "value", "n_items", "se", "valid", "p"), rows, "A note.")
    head, *body = Cells(str(table_html(table, "t1", 10))).rows
    assert [text for text, _ in head] == ["model", "value", "items", "std. error", "valid", "p"]
    assert body[0] == [["a", "text"], ["0.1235", "0.123456789"], ["12,345", ""], ["—", "nan"], ["yes", "text"],
                       ["<0.0001", "1e-07"]]  # fmt: skip
    assert body[1][1] == ["-2", "-2.0"]
    assert "T. A note. " in str(table_html(table, "t1", 10))


def test_a_long_table_is_cut_and_says_where_the_rest_is() -> None:
    table = Table("long", "Long", ("n",), [(i,) for i in range(50)])
    text = str(table_html(table, "x", 40))
    assert len(Cells(text).rows) == 41
    assert "The first 40 of 50 rows" in text
    assert 'href="tables/long.csv"' in text
    assert "On paper the first 30 of 50 rows" in text
    assert "The first" not in str(table_html(table, "x", 50))


@pytest.mark.parametrize("bad", ["<b>", '"><script>', "&amp;", "\u202ex", "a\x00b"])
def test_names_of_every_kind_are_escaped(bad: str) -> None:
    text = str(table_html(Table("t", bad, ("model", bad), [(bad, bad)], bad), "x", 10))
    assert bad not in text or bad == "&amp;"
    assert "<script" not in text
    ((_, _), (first_cell, _)) = Cells(text).rows
    assert first_cell[0] == shown(bad)


def test_the_limit_falls_until_the_page_is_small() -> None:
    def tables(rows: int, parts: int) -> list[tuple[Table, int]]:
        return [(Table("t", "t", ("a",) * 10, [(0,) * 10] * rows), parts)]

    assert row_limit(tables(1000, 6)) == 1000
    assert row_limit(tables(20_000, 12)) == 1000  # 12,000 rows of 10 columns
    assert row_limit(tables(60_000, 60)) == 250
    assert row_limit(tables(10**6, 10**4)) == html_table.STEPS[-1]


def test_every_heading_is_of_a_column_that_there_is(study: Study) -> None:
    columns = {c for t in all_tables(study) for c in t.columns} | set(layers.CLASSIC) | set(layers.CALIBRATED)
    assert set(html_table.HEADINGS) <= columns
    assert heading("n_items") == "items"


def test_the_two_layers_stand_side_by_side_with_the_studys_numbers(study: Study) -> None:
    b = study.benchmarks[0]
    classic, calibrated = layers.classic(b), layers.calibrated(b)
    assert [row[4] for row in classic.rows] == [r.p_gg for a in b.anova for r in a.rows]
    assert [row[0] for row in classic.rows] == ["items"] * 3 + ["cluster means"] * 3
    found = dict(calibrated.rows)
    assert found["combined: gives the verdict"] == b.omnibus.p
    assert found["combined, Holm over the benchmarks"] == b.omnibus.p_holm
    pair = html.render(study).split('<div class="pair">')[1].split("</div></div></div>")[0]
    assert pair.index("calibrated1") < pair.index("classic1")


def test_the_page_of_many_benchmarks_is_folded_and_of_few_is_not(study: Study) -> None:
    assert '<details class="whole"' not in html.render(study)
    many = [dataclasses.replace(study.benchmarks[0], name=f"b{i}", title=f"B{i}") for i in range(5)]
    page = html.render(dataclasses.replace(study, benchmarks=many))
    assert page.count('<details class="whole"') == 5
    assert page.count('<details class="whole" open>') == 1


def test_the_policy_names_the_one_script(study: Study) -> None:
    page = html.render(study)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_every_section_of_a_report_is_there(study: Study) -> None:
    page = html.render(study)
    heads = re.findall(r"<h[23][^>]*>(.*?)<", page)
    for wanted in (
        "One ", "Does acceleration interact with the model?", "Which answers flipped?", "Which categories and groups?",
        "Could it have been known from other models?", "What could have been found?",
        "What noise alone does, and what was answered", "The metrics that the benchmark&#39;s authors publish",
        "Could it have been known without measuring?", "Bias against cost", "What was done to each model", "Methods",
        "Provenance",
    ):  # fmt: skip
        assert wanted.replace("&#39;", "'") in heads
    assert study.command in page
    floor = study.benchmarks[0].floor["shift"]
    assert html.number(floor) in page
    bare = dataclasses.replace(study, benchmarks=[dataclasses.replace(b, floor={}) for b in study.benchmarks])
    assert "No placebo was run" in html.render(bare)


def test_every_figure_has_its_table_its_file_and_its_words(study: Study) -> None:
    page = html.render(study)
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(figures) > 20
    ids = set(re.findall(r'id="([^"]+)"', page))
    for figure in figures:
        assert set(re.findall(r'href="#([^"]+)"', figure)) <= ids
        assert re.search(r'href="figures/[^"]+\.csv"', figure)
        assert re.search(r'<svg [^>]*aria-label="[^"]{20,}"', figure)
        assert "<title>" in figure


def test_examples_without_texts_say_so(study: Study) -> None:
    page = html.render(study)
    assert study.benchmarks[0].examples
    assert "nothing was written" in page
    assert 'data-c="text_before"' not in page
    told = [dataclasses.replace(e, text_before="<i>no</i>") for e in study.benchmarks[0].examples]
    b = dataclasses.replace(study.benchmarks[0], examples=told, content_warning=True)
    page = html.render(dataclasses.replace(study, benchmarks=[b]))
    assert "this benchmark says that its texts may offend" in page
    assert "&lt;i&gt;no&lt;/i&gt;" in page
    assert 'data-c="text_before"' in page


def test_the_example_file_holds_what_the_study_holds(study: Study) -> None:
    table = next(t for t in all_tables(study) if t.name == "examples")
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [row["item"] for row in rows] == [e.item for b in study.benchmarks for e in b.examples]


def test_a_page_with_nothing_but_means_stands(study: Study) -> None:
    empty = {f.name: [] for f in dataclasses.fields(BenchmarkResult) if f.name not in ("models", "accels", "means")
             and isinstance(getattr(study.benchmarks[0], f.name), list)}  # fmt: skip
    b = dataclasses.replace(study.benchmarks[0], **empty, predictability=None, scales=None, floor={})
    page = html.render(dataclasses.replace(study, benchmarks=[b], transfers=[], predictable="", arms=[], cautions=[]))
    assert page.count("<figure>") == 1
    assert "No placebo was run" in page


def test_many_cells_are_not_listed_one_by_one(study: Study) -> None:
    cells = [{"key": f"key{i}"} for i in range(html.MOST_LISTED + 1)]
    page = html.render(dataclasses.replace(study, provenance=study.provenance | {"cells": cells}))
    assert "key0" not in page
    assert f"{len(cells)}, in results.json" in page


def test_doctests() -> None:
    result = doctest.testmod(html_table)
    assert (result.failed, result.attempted > 0) == (0, True)
