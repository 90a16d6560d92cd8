"""The report in a real browser: Debian's chromium through playwright."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest

from analysis.analyse import analyse
from analysis.report import write_all
from analysis.settings import Settings
from analysis.study import Study
from tests.analysis.fake import make_sweep
from tests.browser.conftest import Open

pytestmark = [
    pytest.mark.browser,
    # playwright leaves its driver's pipes to the garbage collector when it stops
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp; \u202eevil\u202c \u05e9\u05dc\u05d5\u05dd "
    "\U0001f600 $x_{1}$ \\input{/etc/passwd} **b** [a](javascript:alert(3)) =1+1 " + "w" * 300
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    sweep = make_sweep(
        tmp_path_factory.mktemp("browser"), models=("alpha", "beta", "gamma"),
        accels=("hqq4", "wanda50", "awq4", "placebo_batch"), benchmarks=("one", "two"), n_clusters=12,
        items_per_cluster=4, interaction=0.6, noise=0.6, failed=[("beta", "awq4")], response="I agree with",
        notes={"gamma": "made on purpose"},
    )  # fmt: skip
    return analyse(Path(sweep), Settings(n_resamples=199))


@pytest.fixture(scope="module")
def report(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(study, tmp_path_factory.mktemp("report") / "report")["html"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of files that hold hostile text wherever a file can: names, notes, groups, answers, errors."""
    import pandas as pd

    root = tmp_path_factory.mktemp("hostile")
    sweep = make_sweep(root, models=("alpha", "beta"), accels=("hqq4", "wanda50"), n_clusters=12, items_per_cluster=4,
                       noise=0.6, failed=[("beta", "wanda50")], response="x")  # fmt: skip
    results = root / "outputs" / "results"
    for path in [*results.rglob("*.json"), sweep / "sweep.json"]:
        text = path.read_text()
        for old in ('"label": "alpha"', '"model": "alpha"'):
            text = text.replace(old, f'"{old.split(chr(34))[1]}": {_json(HOSTILE + " alpha")}')
        for old in ('"title": "Planted"', '"note": ""', "RuntimeError: logits hold NaN", '"method": "hqq"'):
            key = old.split('"')[1] if '": "' in old else ""
            text = text.replace(old, f'"{key}": {_json(HOSTILE)}' if key else _json(HOSTILE)[1:-1])
        path.write_text(text)
    for path in results.rglob("records.parquet"):
        records = pd.read_parquet(path)
        for column in ("category", "group", "response"):
            records[column] = HOSTILE + records[column].astype(str)
        records.to_parquet(path, index=False)
    return write_all(analyse(sweep, Settings(n_resamples=99)), root / "report")["html"]


def _json(text: str) -> str:
    import json

    return json.dumps(text)


def unfold(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")


def test_opens_without_errors_and_without_outside_requests(open_page: Open, report: Path) -> None:
    page, heard = open_page(report)
    unfold(page)
    assert heard.messages == []
    assert heard.outside == []
    assert heard.requests == [report.as_uri()]  # not even a neighbour of its own folder
    assert page.locator("h1").inner_text()
    assert page.locator("svg.figure").count() > 12


def test_the_first_screen_says_what_failed_the_answer_and_every_verdict(
    open_page: Open, report: Path, study: Study
) -> None:
    for width in (1280, 390):
        page, _ = open_page(report, width=width)
        tops = [page.locator(s).bounding_box()["y"] for s in ("h1", "#answer", "#gone", ".matrix")]
        assert tops == sorted(tops)
        assert tops[2] < 900
    assert page.locator("#answer").inner_text() == study.answer
    box = page.locator(".box.bad").inner_text()
    assert "beta under awq4: failed on one and two" in box
    assert "RuntimeError: logits hold NaN" in box
    assert "python -m biaslab retry outputs/sweeps/fake" in box
    marks = page.locator(".matrix tbody .mark")
    assert marks.count() == sum(len(b.shifts) for b in study.benchmarks)
    assert page.locator(".matrix tbody .mark.missing").count() == 2
    row = page.locator(".matrix tbody tr", has=page.locator("th", has_text="hqq4"))
    shift = next(s for s in study.benchmarks[0].shifts if (s.model, s.accel) == ("gamma", "hqq4"))
    assert f"{shift.estimate.value:+.3g}" in row.locator("td").nth(2).inner_text()
    assert page.locator(".matrix thead th").nth(3).inner_text() == "gamma †"


def test_tables_sort_by_number_with_the_unknown_last(open_page: Open, report: Path) -> None:
    page, _ = open_page(report)
    unfold(page)
    table = page.locator("#shifts1")
    column = table.locator("thead th").evaluate_all("heads => heads.findIndex(h => h.dataset.c === 'value')")
    head = table.locator("thead th").nth(column)
    head.locator("button").focus()
    for order, reverse in (("ascending", False), ("descending", True)):
        page.keyboard.press("Enter")  # by keyboard, as by mouse
        assert head.get_attribute("aria-sort") == order
        assert table.locator("[aria-sort]").count() == 1
        shown = table.locator(f"tbody tr td:nth-child({column + 1})").evaluate_all("c => c.map(x => x.dataset.v)")
        values = [float(text) for text in shown]
        known = [v for v in values if not math.isnan(v)]
        assert known == sorted(known, reverse=reverse)
        assert values[: len(known)] == known
        assert (len(values), len(known)) == (12, 11)
    table.locator("thead th").nth(0).locator("button").click()
    names = table.locator("tbody tr td:first-child").all_inner_texts()
    assert names == sorted(names)


def test_tables_filter_by_words_and_say_how_many(open_page: Open, report: Path) -> None:
    page, _ = open_page(report)
    unfold(page)
    table, box = page.locator("#shifts1"), page.get_by_label("filter rows of Shifts", exact=True).first
    box.fill("beta wanda50")
    assert table.locator("tbody tr:visible").count() == 1
    said = page.locator(".tools:has(+ [data-table=shifts]) [role=status]").first
    assert said.inner_text() == "1 of 12 rows"
    box.fill("")
    assert table.locator("tbody tr:visible").count() == 12


def test_a_table_is_copied_and_saved_as_its_csv_file(
    open_page: Open, report: Path, study: Study, tmp_path: Path
) -> None:
    page, heard = open_page(report, accept_downloads=True, permissions=["clipboard-read", "clipboard-write"])
    unfold(page)
    page.get_by_role("button", name="copy Shifts", exact=True).first.click()
    page.get_by_text("copied", exact=True).wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(lines) == 13
    head = lines[0].split("\t")
    values = [line.split("\t")[head.index("value")] for line in lines[1:]]
    assert [float(v) for v in values if v] == [
        s.estimate.value for s in study.benchmarks[0].shifts if math.isfinite(s.estimate.value)
    ]
    with page.expect_download() as download:
        page.get_by_role("button", name="save as csv: Shifts", exact=True).first.click()
    assert download.value.suggested_filename == "shifts.csv"
    download.value.save_as(tmp_path / "shifts.csv")
    saved = list(csv.reader(io.StringIO((tmp_path / "shifts.csv").read_text())))
    written = list(csv.reader(io.StringIO((report.parent / "tables" / "shifts.csv").read_text())))
    skip = written[0].index(saved[0][0])  # the file has all benchmarks, and columns that name them
    yes = {"True": "yes", "False": "no"}
    assert saved == [[yes.get(cell, cell) for cell in row[skip:]] for row in written[: len(saved)]]
    assert heard.messages == []


def test_a_line_is_copied_without_the_buttons_own_word(open_page: Open, report: Path, study: Study) -> None:
    page, _ = open_page(report, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="copy this line").last.scroll_into_view_if_needed()
    lines = page.locator("pre.line")
    for i, text in ((0, "python -m biaslab retry outputs/sweeps/fake"), (1, study.command)):
        lines.nth(i).get_by_role("button").click()
        lines.nth(i).get_by_text("copied", exact=True).wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == text


def test_copying_falls_back_where_the_clipboard_is_closed(open_page: Open, report: Path) -> None:
    page, _ = open_page(report)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("document.execCommand = (what) => { window.done = [what, getSelection().toString()]; return true; }")
    page.locator("pre.line").first.get_by_role("button").click()
    assert page.evaluate("window.done[0]") == "copy"
    page.evaluate("document.execCommand = () => false")
    page.locator("pre.line").nth(1).get_by_role("button").click()
    assert page.locator("pre.line").nth(1).get_by_role("button").inner_text() == "not allowed"


def test_folds_open_one_by_one_all_together_and_by_a_link(open_page: Open, report: Path) -> None:
    page, _ = open_page(report)
    fold = page.locator("details", has=page.locator("#means1")).last
    assert not page.locator("#means1").is_visible()
    assert fold.locator(".tools").count() == 0  # made when it is first shown
    fold.locator("summary").click()
    assert page.locator("#means1").is_visible()
    assert fold.locator(".tools").count() == 1
    assert not page.locator("#shifts1").is_visible()
    page.evaluate("location.hash = '#shifts1'")
    page.locator("#shifts1").wait_for(state="visible")
    page.get_by_role("button", name="open every fold").click()
    assert page.locator("details:not([open])").count() == 0
    page.get_by_role("button", name="close every fold").click()
    assert page.locator("details[open]").count() == 0


def test_marks_say_their_numbers_to_a_pointer_a_finger_and_a_keyboard(
    open_page: Open, report: Path, study: Study
) -> None:
    page, _ = open_page(report)
    tip = page.locator("#tip")
    assert not tip.is_visible()
    chip = page.locator(".matrix tbody .mark").first
    chip.hover()
    shift = study.benchmarks[0].shifts[0]
    assert f"{shift.estimate.value:+.3g} [" in tip.inner_text()
    page.mouse.move(2, 2)
    assert not tip.is_visible()
    mark = page.locator("svg.figure").first.locator("g[data-tip]").first
    mark.scroll_into_view_if_needed()
    mark.locator("path").first.hover(force=True)
    mean = next(m for m in study.benchmarks[0].means if (m.model, m.accel) == ("alpha", "none"))
    assert f"{mean.estimate.value:+.3g}" in tip.inner_text()
    assert "n = 48 items in 12 clusters" in tip.inner_text()
    page.evaluate("dispatchEvent(new Event('scroll'))")  # the late event of a scroll that was over before
    assert tip.is_visible()
    page.evaluate("scrollBy(0, 5000)")
    tip.wait_for(state="hidden")
    page.evaluate("scrollBy(0, -5000)")
    page.mouse.move(2, 2)
    mark.locator("path").first.hover(force=True)
    tip.wait_for(state="visible")
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.locator("svg.figure").nth(1).focus()
    said = []
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        said.append(tip.inner_text())
    assert len(set(said)) == 3
    touch, _ = open_page(report, width=390, has_touch=True, is_mobile=True)
    touch.locator(".matrix tbody .mark").first.tap()
    assert touch.locator("#tip").is_visible()
    box = touch.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1600])
def test_no_width_makes_the_page_scroll_sideways(open_page: Open, report: Path, hostile: Path, width: int) -> None:
    for path in (report, hostile):
        page, _ = open_page(path, width=width)
        unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_follows_the_system_until_it_is_chosen(open_page: Open, report: Path) -> None:
    def lightness(page: Any) -> tuple[float, float]:
        found = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        a, b = (sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in found)
        return a, b

    light, _ = open_page(report, color_scheme="light")
    dark, _ = open_page(report, color_scheme="dark")
    for page, name in ((light, "dark page"), (dark, "light page")):
        ground, text = lightness(page)
        assert abs(ground - text) > 0.6
        page.get_by_role("button", name=name).click()
        assert lightness(page)[0] == pytest.approx(1 - ground, abs=0.2)
        assert page.get_by_role("button", name=name).count() == 0  # it now offers the other one
    assert lightness(light)[0] < 0.2 < 0.8 < lightness(dark)[0]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_no_serious_fault(open_page: Open, report: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, _ = open_page(report, width=width, color_scheme=scheme, bypass_csp=True)  # axe is a script of its own
    unfold(page)
    found = Axe().run(page).response
    assert len(found["passes"]) > 20
    faults = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]][:3]) for v in faults] == []


def test_prints_every_fold_within_the_paper(open_page: Open, report: Path, study: Study, tmp_path: Path) -> None:
    from pypdf import PdfReader

    page, _ = open_page(report)
    closed = page.locator("details:not([open])").count()
    page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    pages = [p.extract_text() for p in PdfReader(tmp_path / "report.pdf").pages]
    text = " ".join(" ".join(pages).split())
    assert " ".join(study.answer.split()) in text
    assert "python -m biaslab retry" in text
    for fold in ("Mean score of each cell", "Interaction contrasts", "(model_1 - model_2)", "Versions, hashes"):
        assert fold in text
    assert "open every fold" not in text  # no buttons on paper
    assert len(pages) < 80
    assert page.locator("details:not([open])").count() == closed  # as it was before
    sheet, _ = open_page(report, width=703)  # A4 less its margins
    sheet.emulate_media(media="print")
    unfold(sheet)
    cut = "[...document.querySelectorAll('table, svg, pre')].filter(e => e.getBoundingClientRect().right > 704)"
    assert sheet.evaluate(f"{cut}.map(e => e.id || e.outerHTML.slice(0, 80))") == []


def test_without_scripts_everything_is_there(open_page: Open, report: Path, study: Study) -> None:
    page, _ = open_page(report, java_script_enabled=False)
    assert page.locator("#answer").inner_text() == study.answer
    assert page.locator("button:visible").count() == 0
    page.locator("summary", has_text="Shifts from the baseline").first.click()
    assert page.locator("#shifts1 tbody tr").count() == 12
    assert page.locator("svg title").count() > 50  # what a tip says


def test_examples_are_folded_behind_a_warning_and_are_side_by_side(open_page: Open, report: Path, study: Study) -> None:
    page, _ = open_page(report)
    fold = page.locator("details.examples").first
    assert "may offend" in fold.locator("summary").inner_text()
    assert not page.locator("#examples1").is_visible()
    fold.locator("summary").click()
    heads = page.locator("#examples1 thead th").evaluate_all("heads => heads.map(h => h.dataset.c)")
    assert heads.index("text_before") < heads.index("text_after")
    row = page.locator("#examples1 tbody tr").first.locator("td").all_inner_texts()
    example = study.benchmarks[0].examples[0]
    assert row[heads.index("item")] == example.item
    assert row[heads.index("text_after")] == f"I agree with {example.accel}"
    assert "Prompts are not stored" in fold.inner_text()


def test_hostile_text_does_nothing(open_page: Open, hostile: Path) -> None:
    for width in (1280, 390):
        page, heard = open_page(hostile, width=width)
        unfold(page)
        for mark in page.locator(".matrix tbody .mark").all():
            mark.hover()
        page.get_by_label("filter rows of", exact=False).first.fill("<script>")
        assert heard.messages == []
        assert heard.dialogs == []
        assert heard.outside == []
        assert page.locator("img, script:not(:last-child), main script").count() == 0
        assert "⟨U+202E⟩evil" in page.locator("#answer").inner_text()  # what hides is written out
        text = page.locator("body").inner_text()
        assert "<script>alert(1)</script>" in text  # shown as the text it is
        assert "\u202e" not in text
        assert page.locator("a[href^='javascript']").count() == 0


def test_headings_step_by_one_and_everything_has_a_name(open_page: Open, report: Path) -> None:
    page, _ = open_page(report)
    assert page.locator("svg[role=img]:not([aria-label])").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    targets = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
    )
    assert set(targets) <= set(ids)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"


def test_every_file_that_the_page_names_is_there(open_page: Open, report: Path) -> None:
    page, _ = open_page(report)
    links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    files = {link for link in links if not link.startswith("#")}
    assert {"tables/shifts.csv", "report.md"} < files
    assert [link for link in files if not (report.parent / link).is_file()] == []
