"""The report in a real browser: Debian's chromium through playwright."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.analyse import analyse
from analysis.report import write_all
from analysis.settings import Settings
from tests.analysis.fake import make_sweep

pytestmark = [
    pytest.mark.browser,
    # playwright leaves its driver's pipes to the garbage collector when it stops
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if executable is None or sync_playwright is None:
        reason = "needs chromium and the package playwright (make test-browser installs the latter)"
        (pytest.fail if request.config.getoption("--strict-browser") else pytest.skip)(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    sweep = make_sweep(root, models=("alpha", "beta", "gamma"), accels=("hqq4", "wanda50", "placebo_batch"),
                       benchmarks=("one", "two"), n_clusters=10, items_per_cluster=4, interaction=0.6)  # fmt: skip
    return write_all(analyse(Path(sweep), Settings(n_resamples=199)), root / "report")["html"]


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.requests, opened.messages = [], []
    opened.on("request", lambda request: opened.requests.append(request.url))
    opened.on("console", lambda message: opened.messages.append(message.text))
    opened.on("pageerror", lambda error: opened.messages.append(str(error)))
    opened.goto(report.as_uri())
    yield opened
    context.close()


def test_opens_without_errors_and_without_outside_requests(page: Any, report: Path) -> None:
    page.wait_for_load_state("load")
    assert page.messages == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    figures = [path.stem for path in (report.parent / "figures").glob("*.svg")]
    assert page.locator("svg.figure").count() == len(figures)
    assert page.locator("h1").inner_text()


def test_tables_sort_by_number_and_filter(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    table = page.locator("#shifts1")
    column = table.locator("thead th").all_inner_texts().index("value")
    head = table.locator("thead th").nth(column)
    for order, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        values = [
            float(cell.get_attribute("data-v")) for cell in table.locator(f"tbody tr td:nth-child({column + 1})").all()
        ]
        assert values == sorted(values, reverse=reverse)
        assert len(values) == 9
    page.get_by_label("filter rows of Shifts").first.fill("beta wanda50")
    assert table.locator("tbody tr:visible").count() == 1


@pytest.mark.parametrize("width", [360, 400, 768, 1280])
def test_no_width_makes_the_page_scroll_sideways(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_differ_and_keep_contrast(page: Any) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours[scheme] = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        lightness = [sum(int(n) for n in c[4:-1].split(",")) / 765 for c in colours[scheme]]
        assert abs(lightness[0] - lightness[1]) > 0.6
    assert colours["light"] != colours["dark"]


def test_prints_to_pdf_with_every_fold_open(page: Any, tmp_path: Path) -> None:
    page.pdf(path=str(tmp_path / "report.pdf"))
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")


def test_images_have_names_and_regions_can_be_reached_by_keyboard(page: Any) -> None:
    assert page.locator("svg[role=img]:not([aria-label])").count() == 0
    assert page.locator("[role=region]:not([tabindex='0'])").count() == 0
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
