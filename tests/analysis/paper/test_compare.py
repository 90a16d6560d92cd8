"""Results beside the printed figures: what agrees, what differs, and what is not compared at all."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main
from analysis.load import Cell
from analysis.paper.compare import METRICS, PUBLISHED, compare, compare_and_print
from analysis.paper.table import blocks
from tests.analysis.fake import make_sweep

IDS = {
    "llama2": "meta-llama/Llama-2-7b-chat-hf",
    "mistral": "mistralai/Mistral-7B-Instruct-v0.3",
    "llama": "meta-llama/Llama-3.1-8B-Instruct",
}


def cell(model: str, accel: str, benchmark: str, value: float | None, **change: Any) -> Cell:
    """A measured cell with an interval of a thousandth either way."""
    chat, mode = change.pop("chat", False), change.pop("mode", "greedy")
    content = {
        "model": {"identity": f"{IDS.get(model, model)}@abc", "source": "hub"},
        "benchmark": {"name": benchmark, "limit": None, "sample": None, "categories": []} | change,
        "prompt": {"chat": chat, "system": change.pop("system", "")},
        "metrics": {
            METRICS.get(benchmark.removesuffix("+chat"), ""): {
                "value": value, "ci_low": value and value - 0.001, "ci_high": value and value + 0.001, "reason": "few",
            }
        },
    }  # fmt: skip
    return Cell(model, accel, benchmark, mode, 0, None, "accelerated", False, "k", Path("."), content)


def whole() -> list[Cell]:
    """Every printed figure, measured to the digit."""
    return [
        cell(m, a, b.benchmark + ("+chat" if b.chat else ""), b.value(m, a), chat=b.chat, mode=b.decoding)
        for b in blocks()
        for m in b.models
        for a in b.accels
        if not math.isnan(b.value(m, a))
    ]


def test_the_printed_figures_agree_with_themselves() -> None:
    found = compare(whole())
    assert len(found.rows) == found.n_printed == 308
    assert {row.verdict for row in found.rows} == {"agree"}
    assert {row.direction for row in found.rows} <= {"", "same", "none printed"}
    assert sum(row.direction == "same" for row in found.rows) == 142
    assert not found.left_out


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.2249, "agree"), (0.2259, "agree"), (0.2262, "differ"), (0.2149, "agree"), (0.213, "differ")],
)
def test_the_interval_and_the_rounding_must_meet(value: float, verdict: str) -> None:
    (row,) = compare([cell("llama2", "none", "discrim_eval", value)]).rows  # .22 printed: .215 to .225
    assert row.verdict == verdict


def test_without_an_interval_the_figure_must_round_to_the_printed_one() -> None:
    plain = cell("llama2", "none", "discrim_eval", 0.2255)
    metric = plain.content["metrics"]["max_min"]
    metric["ci_low"] = metric["ci_high"] = None
    (row,) = compare([plain]).rows
    assert row.verdict == "differ"


def test_the_direction_of_a_shift() -> None:
    base = cell("llama2", "none", "discrim_eval", 0.3)
    rows = compare(
        [
            base, cell("llama2", "awq4", "discrim_eval", 0.4), cell("llama2", "wanda24", "discrim_eval", 0.31),
            cell("llama2", "kv8", "discrim_eval", 0.5), cell("mistral", "awq4", "discrim_eval", 0.2),
            cell("llama2", "wanda50", "discrim_eval", 0.3),
        ]
    ).rows  # fmt: skip
    assert [row.direction for row in rows] == ["", "same", "opposite", "none printed", "", "none found"]
    assert rows[1].shift == pytest.approx(0.1)
    assert rows[1].printed_shift == pytest.approx(0.27)


def test_both_variants_and_the_papers_own_conditions_have_their_place() -> None:
    name = "dt_stereotyping" + PUBLISHED
    rows = compare([cell("mistral", "paper_int4", name, 77.0), cell("mistral", "bnb4", "dt_stereotyping", 77.0)]).rows
    assert [row.printed for row in rows] == [77.0, 77.0]
    assert METRICS[name] != METRICS["dt_stereotyping"]  # of all answers in both


OTHER = "another benchmark, or other data, than the paper's"


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (cell("smollm", "none", "crows_pairs", 60.0), "another model than the paper's three"),
        (cell("llama", "hqq4", "crows_pairs", 60.0), "another accelerator than the paper's seven"),
        (cell("llama", "none", "crows_pairs", 60.0, limit=20), "a part of the benchmark"),
        (
            cell("llama", "none", "discrim_eval-reconstructed", 0.2),
            "another benchmark, or other data, than the paper's",
        ),
        (cell("llama", "kv4", "crows_pairs", 60.0), "no figure is printed"),
        (cell("llama", "none", "crows_pairs", None), "no figure was measured (few)"),
        (cell("llama", "none", "crows_pairs", 60.0, mode="sampled"), "not printed in this form"),
    ],
)
def test_what_is_not_compared_is_said(measured: Cell, reason: str) -> None:
    found = compare([measured])
    assert not found.rows
    assert dict(found.left_out) == {reason: 1}


def test_another_system_prompt_is_another_question() -> None:
    other = cell("llama", "none", "dt_stereotyping", 10.0)
    content = dict(other.content) | {"prompt": {"chat": False, "system": "Be kind."}}
    assert dict(compare([replace(other, content=content)]).left_out) == {"another system prompt": 1}


def sweep(folder: Path, value: float) -> Path:
    """A sweep of one of the paper's models with a figure for CrowS-Pairs."""
    metric = {"pct_prefers_more": {"value": value, "ci_low": value - 1, "ci_high": value + 1, "reason": ""}}
    overrides = {
        ("llama", accel): {"model": {"label": "llama", "source": "hub", "identity": f"{IDS['llama']}@x", "note": ""},
                           "metrics": metric}
        for accel in ("none", "wanda50")
    }  # fmt: skip
    return make_sweep(
        folder, models=("llama",), accels=("wanda50",), benchmarks=("crows_pairs",), source="hub", overrides=overrides
    )


@pytest.mark.parametrize(("value", "code", "word"), [(65.9, 0, "ALL AGREE"), (68.0, 4, "SOME DIFFER")])
def test_the_exit_code_says_whether_all_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, code: int, word: str
) -> None:
    path = tmp_path / "cells.csv"
    assert main(["paper", f"results={sweep(tmp_path, value)}", f"csv={path}"]) == code
    out = capsys.readouterr().out
    assert f"{word}: 2 cells have one of the 308 printed figures" in out
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [(r["accel"], r["printed"], r["verdict"]) for r in rows] == [
        ("none", "66.0", "agree" if code == 0 else "differ"), ("wanda50", "65.0", "agree" if code == 0 else "differ"),
    ]  # fmt: skip


def test_embedded_models_are_never_held_to_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", f"results={make_sweep(tmp_path)}"]) == 5
    out = capsys.readouterr().out
    assert "NOTHING COMPARED" in out
    assert "2 models x 5 conditions x 1 benchmarks, where the paper has 3 x 8 x 6" in out
    assert "no figure of one set says anything about the other" in out


def test_what_failed_is_listed(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, accels=("hqq4",), failed=[("tiny_llama", "hqq4")])
    out = io.StringIO()
    compare_and_print(sweep, "", out)
    assert "not compared: 1 cell, failed: RuntimeError: logits hold NaN" in out.getvalue()
