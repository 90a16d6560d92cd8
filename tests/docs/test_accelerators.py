"""docs/accelerators.md has one row for every accelerator, and the row says what its class says and its Fact shows."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

import pytest

from biaslab.accel.active import reference_logits
from tests.accel import tiny
from tests.accel.test_contract import CHOICES, family_of, ready, runnable
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "accelerators.md"
COLUMNS = ("name", "method", "reference", "engine", "CPU", "GPU", "float types")
#: module -> what the page calls the library.
LIBRARIES = {"llmcompressor": "llm-compressor", "datasets": "llm-compressor"}
ENGINES = ("native", "llm-compressor", "SparseML")


@dataclass(frozen=True)
class Row:
    """A row of the table. names : the accelerators it is about; cells : by column."""

    names: tuple[str, ...]
    cells: dict[str, str]


def rows(text: str) -> list[Row]:
    """The rows of the table whose head is COLUMNS."""
    head = f"| {' | '.join(COLUMNS)} |"
    assert text.count(head) == 1
    found = []
    for line in text.split(head)[1].strip().split("\n")[1:]:
        if not line.startswith("|"):
            break
        cells = dict(zip(COLUMNS, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
        found.append(Row(tuple(cells["name"].split()), cells))
    return found


ROWS = rows(PAGE.read_text(encoding="utf-8"))
ROW = {name: row for row in ROWS for name in row.names}


def wrong(choice: str, cells: dict[str, str]) -> list[str]:
    """What of a row is not what the class says."""
    cls = family_of(choice)
    fields = {field.name for field in dataclasses.fields(cls)}
    engines = [LIBRARIES.get(module, module) for module in cls.requires] + [e for e in ENGINES if "engine" in fields]
    papers = re.findall(r"arXiv:\d{4}\.\d{5}", cls.__doc__ or "")
    told = {
        "method": bool(cells["method"]),
        "engine": all(engine in cells["engine"] for engine in engines),
        "calibrated": ("calibrated" in cells["engine"]) == ("calibration" in fields),
        "reference": all(paper in cells["reference"] for paper in papers)
        and bool(cells["reference"] or cls.kind in ("baseline", "placebo")),
        "CPU": bool(cells["CPU"]) and (cells["CPU"] == "refused") == bool(cls.needs_gpu),
        "GPU": bool(cells["GPU"]),
        "float types": bool(cells["float types"]),
    }
    return [what for what, said in told.items() if not said]


def test_every_accelerator_has_one_row() -> None:
    assert sorted(name for row in ROWS for name in row.names) == CHOICES


@pytest.mark.parametrize("choice", CHOICES)
def test_a_row_says_what_its_class_says(choice: str) -> None:
    assert wrong(choice, ROW[choice].cells) == []


def test_a_row_that_says_otherwise_is_found() -> None:
    for choice, column, text, found in (
        ("hqq4", "engine", "torchao", "engine"),
        ("gptq4", "engine", "llm-compressor", "calibrated"),
        ("wanda50", "engine", "native; calibrated", "engine"),
        ("wanda50", "reference", "Sun et al. 2024", "reference"),
        ("ao_fp8", "CPU", "simulated", "CPU"),
        ("kv4", "CPU", "refused", "CPU"),
        ("none", "float types", "", "float types"),
    ):
        assert wrong(choice, ROW[choice].cells | {column: text}) == [found], (choice, column)


@pytest.mark.parametrize("choice", runnable())
def test_the_arithmetic_of_a_row_is_that_of_the_fact(choice: str) -> None:
    model = tiny.make("llama")
    after = ready(choice, model).apply(model, choice)
    reference_logits(after)
    said = ROW[choice].cells["CPU"]
    simulated = after.facts[-1].values.get("simulated") if after.facts else None
    if family_of(choice).kind == "custom":
        assert said == "yours"
    elif simulated is None:  # baseline and placebos round nothing
        assert said == "as loaded"
    else:
        assert ("simulated" if simulated else "real kernel") in said
