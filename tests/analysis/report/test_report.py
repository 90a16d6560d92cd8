from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.analyse import analyse
from analysis.report import html, markdown, svg, terminal, traces, write_all
from analysis.report.figures import all_figures
from analysis.report.svg_parts import nice_ticks
from analysis.report.tables import Table, all_tables, of_benchmark
from analysis.settings import Margins, Settings
from analysis.study import Missing, Study
from tests.analysis.fake import make_sweep
from tests.analysis.report.conftest import HOSTILE


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def hostile(study: Study) -> Study:
    """The study with hostile text wherever a name or message from outside can stand."""
    name = {"alpha": HOSTILE}.get
    benchmarks = [
        dataclasses.replace(
            b,
            title=HOSTILE, sentence=HOSTILE, cautions=[HOSTILE],
            models=[name(m, m) for m in b.models],
            means=[dataclasses.replace(m, model=name(m.model, m.model)) for m in b.means],
            shifts=[dataclasses.replace(s, model=name(s.model, s.model), sentence=HOSTILE) for s in b.shifts],
            differences=[dataclasses.replace(d, model=name(d.model, d.model)) for d in b.differences],
        )
        for b in study.benchmarks
    ]  # fmt: skip
    return dataclasses.replace(
        study, answer=HOSTILE, sweep=HOSTILE, command=HOSTILE, cautions=[HOSTILE], benchmarks=benchmarks,
        models={name(m, m): HOSTILE for m in study.models}, methods=HOSTILE, provenance={HOSTILE: HOSTILE},
        missing=[Missing("alpha", HOSTILE, "one", "failed", HOSTILE)],
    )  # fmt: skip


def test_the_whole_report_is_written_and_replaces_an_earlier_one(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "report"
    (out / "tables").mkdir(parents=True)
    for name in ("results.json", "tables/old.csv"):
        (out / name).write_text("old")
    paths = write_all(study, out)
    assert not (out / "tables" / "old.csv").exists()
    assert {key: path.relative_to(out).as_posix() for key, path in paths.items()} == {
        "html": "report.html", "md": "report.md", "tex": "tables.tex", "json": "results.json", "tables": "tables",
        "figures": "figures",
    }  # fmt: skip
    assert all(path.exists() for path in paths.values())
    named = {figure.name for figure in all_figures(study)}
    for ending in ("png", "svg", "csv"):
        assert {path.stem for path in paths["figures"].glob(f"*.{ending}")} == named
    assert (paths["figures"] / "figures.pdf").read_bytes().startswith(b"%PDF")
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
    assert paths["html"].stat().st_size < 5_000_000


def test_every_shift_of_the_page_is_the_studys(study: Study) -> None:
    text = "".join(Page(html.render(study)).text)
    for b in study.benchmarks:
        assert b.sentence in text
        for shift in b.shifts:
            assert html.number(shift.estimate.value) in text
            assert shift.verdict in text
    assert study.answer in text


def test_the_markdown_shows_figures_that_are_written(study: Study, tmp_path: Path) -> None:
    out = write_all(study, tmp_path / "report")["md"]
    images = re.findall(r"!\[(.+)\]\((figures/[a-z0-9-]+\.svg)\)", out.read_text())
    assert len(images) == 4 * len(study.benchmarks)
    assert all((out.parent / path).is_file() for _, path in images)
    assert all(any(c.isdigit() for c in alternative) for alternative, _ in images)


def test_missing_numbers_are_said_not_drawn(study: Study) -> None:
    b = study.benchmarks[0]
    gone = dataclasses.replace(b.shifts[0].estimate, value=math.nan, ci_low=math.nan, ci_high=math.nan, reason="why")
    b = dataclasses.replace(b, shifts=[dataclasses.replace(b.shifts[0], estimate=gone), *b.shifts[1:]])
    drawn = svg.heat(traces.shift_heat(study, b)) + svg.forest(traces.forest(study, b))
    assert "nan" not in drawn
    assert "—" in drawn


def test_the_page_asks_nothing_of_the_network_and_names_its_figures(study: Study) -> None:
    page = Page(html.render(study))
    for tag, attributes in page.tags:
        for key in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(key) or ""
            assert not re.match(r"(https?:)?//", value), (tag, value)
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    assert "@import" not in html.render(study)
    assert sum(tag == "svg" for tag, _ in page.tags) == len(all_figures(study))


def test_hostile_text_does_nothing_anywhere(hostile: Study, tmp_path: Path) -> None:
    page = Page(html.render(hostile))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    written = markdown.render(hostile)
    assert "<script>" not in written
    assert "\n\n\n" not in written
    shown = terminal.render(hostile, color=False, width=80)
    assert "\u202e" not in shown
    assert "\x1b" not in terminal.render(hostile, color=False)
    write_all(hostile, tmp_path / "report")
    json.loads((tmp_path / "report" / "results.json").read_text())


def test_changed_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, models=("a",), accels=("hqq4",), n_clusters=30, shift=0.15, noise=0.3, notes={})
    found = analyse(sweep, Settings(n_resamples=199, margins=Margins(by_benchmark={"planted": 0.2})))
    (shift,) = found.benchmarks[0].shifts
    assert shift.verdict == "changed"
    assert abs(shift.estimate.value) < shift.margin  # beyond chance, but not beyond the margin
    page = html.render(found)
    assert "beyond the margin" not in page
    assert page.count("not shown to be inside the margin") >= 2  # under the matrix, and under the heat map
    assert "unchanged where its 90 % interval lies inside" in page


def test_markdown_holds_nothing_that_a_terminal_obeys(study: Study) -> None:
    name = "a\x1b[2J\u202eb\x9b"
    text = markdown.render(dataclasses.replace(study, answer=name, sweep=name, command=name, cautions=[name]))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "⟨U+001B⟩" in text


def test_terminal_escapes_in_names_never_reach_the_terminal(study: Study) -> None:
    bad = dataclasses.replace(study, answer="\x1b[2Jgone\x07")
    for color in (False, True):
        assert "\x1b[2J" not in terminal.render(bad, color=color)
        assert "\x07" not in terminal.render(bad, color=color)


def test_json_is_strict_and_versioned(study: Study, tmp_path: Path) -> None:
    paths = write_all(study, tmp_path / "report")

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is not JSON")

    content = json.loads(paths["json"].read_text(), parse_constant=refuse)
    assert content["schema_version"] == 1
    assert content["benchmarks"][0]["shifts"][0]["estimate"]["value"] == study.benchmarks[0].shifts[0].estimate.value


def test_csv_round_trip_and_formula_cells(study: Study, tmp_path: Path) -> None:
    folder = write_all(study, tmp_path / "report")["tables"]
    with (folder / "shifts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [s.estimate.value for b in study.benchmarks for s in b.shifts]
    assert [float(row["value"]) for row in rows] == expected
    table = Table("t", "t", ("text", "number"), [("=1+1", -1.5), ("@x", math.nan), ("+2", 3), ("plain", True)])
    assert table.to_csv().splitlines() == ["text,number", "'=1+1,-1.5", "'@x,", "'+2,3", "plain,True"]


def test_a_result_shows_its_own_rows_only(study: Study) -> None:
    table = next(t for t in all_tables(study) if t.name == "shifts")
    parts = [of_benchmark(table, b) for b in study.benchmarks]
    assert [len(part.rows) for part in parts] == [len(b.shifts) for b in study.benchmarks]
    assert sum(len(part.rows) for part in parts) == len(table.rows)


def test_ticks_cover_the_range_with_round_numbers() -> None:
    for low, high in ((-0.03, 0.52), (0, 1e-9), (-5e4, 1.0), (0, 0)):
        ticks = nice_ticks(low, high)
        assert ticks[0] <= low + 1e-12
        assert ticks[-1] >= high - 1e-12
        assert 2 <= len(ticks) <= 13


def test_one_model_without_any_shift_still_makes_a_report(study: Study, tmp_path: Path) -> None:
    bare = [dataclasses.replace(b, shifts=[], differences=[], recovery=[]) for b in study.benchmarks]
    paths = write_all(dataclasses.replace(study, benchmarks=bare), tmp_path / "report")
    assert "Mean score" in paths["html"].read_text()
    assert "no shift to show" in terminal.render(dataclasses.replace(study, benchmarks=bare))


def test_every_setting_is_printed(study: Study) -> None:
    page = "".join(Page(html.render(study)).text)
    text = markdown.render(study).replace("\\", "")
    for name, value in html.flat(study.settings).items():
        assert f"{name} = {value}" in page
        assert f"{name} = {value}" in text
    assert {"margins.rate", "power", "predictable_share", "floor_quantile"} <= html.flat(study.settings).keys()


def test_new_sections_carry_their_numbers(study: Study) -> None:
    page, text = "".join(Page(html.render(study)).text), markdown.render(study)
    for b in study.benchmarks:
        assert b.scales is not None
        assert b.predictability is not None
        assert b.scales.sentence in page
        for value in (b.predictability.share, b.flips[0].net.value, b.power[0].detectable, b.simple_effects[0].f):
            assert html.number(value) in page
        assert html.number(b.predictability.share) in text
    assert study.predictable in page


def test_every_table_has_its_rows(study: Study) -> None:
    tables = {t.name: t for t in all_tables(study)}
    filled = {"simple_effects", "contrasts", "assumptions", "scales", "flips", "flip_profile", "flip_groups", "power",
              "predictability", "predictions", "equivalence", "transfers", "anova", "omnibus"}  # fmt: skip
    assert {name for name in filled if not tables[name].rows} == set()
    b = study.benchmarks[0]
    net = next(r for r in tables["flips"].rows if r[:3] == (b.name, b.decoding, b.pool))
    assert net[tables["flips"].columns.index("net")] == b.flips[0].net.value
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows)
