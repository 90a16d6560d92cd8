"""Every benchmark has its entry in the pages and every accelerator its rows, and they say what the classes say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from biaslab.benchmarks import registry
from biaslab.benchmarks.base import Benchmark, Metric
from biaslab.benchmarks.bold import Bold
from tests.benchmarks.test_contract import MODEL, neutral, records
from tests.docs import pages

PAGES = [*sorted((pages.ROOT / "docs").glob("benchmarks*.md")), pages.ROOT / "docs" / "own_data.md"]
PARTS = (
    "Asks",
    "Item score",
    "Published",
    "Variants",
    "Data and licence",
    "Content warning",
    "Checked against",
    "Critique",
)
REFERENCE = re.compile(r"\b(?:arXiv:\d{4}\.\d{5}|doi:10\.\d{4,}/\S)")
YEAR = re.compile(r"et al\. (?:19|20)\d\d|\band [A-Z]\w+ (?:19|20)\d\d|[Tt]he paper")


@dataclass(frozen=True)
class Entry:
    """A benchmark's entry. parts : name -> text on one line, in the page's order."""

    name: str
    parts: dict[str, str]


def entries(text: str) -> Iterator[Entry]:
    """The entries of a page: headings that end in (`name`), each with a list of bold-named points."""
    found = re.split(r"^#+ .*\(`(\w+)`\)$", text, flags=re.MULTILINE)
    for name, body in zip(found[1::2], found[2::2], strict=True):
        own = re.split(r"^(?:#|(?!- |  )\S)", body.strip(), maxsplit=1, flags=re.MULTILINE)[0]
        points = re.split(r"^- \*\*([^*]+)\*\* ", own, flags=re.MULTILINE)
        parts = {part: " ".join(words.split()) for part, words in zip(points[1::2], points[2::2], strict=True)}
        yield Entry(name, parts)


ENTRIES = [entry for page in PAGES for entry in entries(page.read_text(encoding="utf-8"))]


def missing(entry: Entry, cls: type[Benchmark]) -> list[str]:
    """What an entry lacks, or says otherwise than the class."""
    if tuple(entry.parts) != PARTS:
        return [f"its points are {', '.join(entry.parts)}; they must be {', '.join(PARTS)}"]
    meta, parts = cls.meta, entry.parts
    direction = meta.direction or "no direction"
    has_variants = any(field.name == "variant" for field in dataclasses.fields(cls))
    both = "`published`" in parts["Variants"] and "`default`" in parts["Variants"]
    told = {
        f"unit: {meta.score_unit}": f"Unit: {meta.score_unit}" in parts["Item score"],
        f"{meta.neutral:g} is neutral": f"{meta.neutral:g} is neutral" in parts["Item score"],
        direction: direction in parts["Item score"],
        f"licence: {meta.licence}": meta.licence in parts["Data and licence"],
        f"content warning: {meta.content_warning}": parts["Content warning"].startswith(
            "Yes" if meta.content_warning else "No"
        ),
        f"variants: {has_variants}": both == has_variants,
        # What others made was published by somebody, and somebody has written against it.
        "who published the measure": bool(not cls.files or YEAR.search(parts["Published"])),
        "a critique's reference": bool(not cls.files or REFERENCE.search(parts["Critique"])),
    }
    return [what for what, said in told.items() if not said]


def test_every_benchmark_has_one_entry() -> None:
    assert sorted(entry.name for entry in ENTRIES) == sorted(registry())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_says_what_its_class_says(entry: Entry) -> None:
    cls = registry()[entry.name]
    assert missing(entry, cls) == []
    assert {file.licence for file in cls.files} <= {cls.meta.licence}


def test_an_entry_that_says_otherwise_is_found() -> None:
    (entry,) = (entry for entry in ENTRIES if entry.name == "crows_pairs")
    cls = registry()["crows_pairs"]
    for part, old, new, found in (
        ("Item score", "nats per token", "bits", "unit: nats per token"),
        ("Item score", "positive: the more", "positive: the less", cls.meta.direction),
        ("Data and licence", "CC BY-SA", "CC BY-NC", "licence: CC BY-SA 4.0"),
        ("Content warning", "Yes", "No", "content warning: True"),
        ("Critique", "arXiv:", "arXiv ", None),  # one of two references is enough
    ):
        assert old in entry.parts[part]
        changed = Entry(entry.name, entry.parts | {part: entry.parts[part].replace(old, new)})
        assert missing(changed, cls) == ([found] if found else []), part
    unread = Entry(entry.name, {k: v for k, v in entry.parts.items() if k != "Critique"})
    assert missing(unread, cls)[0].startswith("its points are")
    both = Entry(entry.name, entry.parts | {"Critique": "Nothing is known."})
    assert missing(both, cls) == ["a critique's reference"]


def metric_names(text: str) -> set[str]:
    """Names in code that may be metrics: without blanks or signs of a formula, or of a setting (field=value)."""
    return {name for name in re.findall(r"`([^`]+)`", text) if re.fullmatch(r"[a-z_]+(?:/[\w=]+)?", name)}


def given_metrics(entry: Entry) -> set[str]:
    """Names of the metrics of a cell of unbiased answers, in every variant and by every scorer."""
    cls, found = registry()[entry.name], set()
    for variant in ("default", "published") if "`default`" in entry.parts["Variants"] else ("",):
        benchmark = cls(**cls.test_config(), **({"variant": variant} if variant else {}))
        frame = records(benchmark, benchmark.items(MODEL), neutral(benchmark))
        found |= set(benchmark.metrics(frame))
        if isinstance(benchmark, Bold):
            found |= set(dataclasses.replace(benchmark, scorer="sentiment").metrics(frame))
    return found


@pytest.mark.data
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_metrics_an_entry_names_are_those_of_a_cell(entry: Entry, data_dir: Path) -> None:
    """Placeholders in capitals stand for a category, topic or group."""
    named = metric_names(entry.parts["Published"]) - {field.name for field in dataclasses.fields(Metric)}
    given = given_metrics(entry)
    assert named or entry.name == "custom"
    whole = {name for name in named if not name[-1].isupper()} - given
    kinds = {re.sub(r"[A-Z]+(?:=[A-Z]+)?$", "", name) for name in named if name[-1].isupper()}
    # Metrics of a part alone are named without it: p_value for p_value/race.
    assert {name for name in whole if not any(other.startswith(f"{name}/") for other in given)} == set()
    assert {kind for kind in kinds if not any(name.startswith(kind) for name in given)} == set()
