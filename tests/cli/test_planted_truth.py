"""On embedded models whose truth is known: the interaction that is there is found, and none where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import biaslab

pytestmark = pytest.mark.slow


def result(folder: Path, models: str, accels: str) -> dict[str, Any]:
    """results.json of a sweep over the planted associations."""
    words = [f"model={models}", f"accel={accels}", "benchmark=planted", "tracker=none"]
    done = biaslab(folder, "-m", *words, timeout=600)
    assert done.code == 0, done.err
    path = next((folder / "outputs" / "reports").glob("*/results.json"))
    study: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return study


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """tiny_mistral was made so that 4-bit rounding undoes its alignment; tiny_llama was not."""
    return result(tmp_path_factory.mktemp("there"), "tiny_llama,tiny_mistral", "hqq4,wanda50")


@pytest.fixture(scope="module")
def absent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Neither model's bias depends on its last bits."""
    return result(tmp_path_factory.mktemp("absent"), "tiny_llama,tiny_sparse", "hqq8,hqq4")


def test_the_interaction_that_is_there_is_found_in_its_cell(there: dict[str, Any]) -> None:
    b = there["benchmarks"][0]
    assert b["verdict"] == "interaction"
    shifts = {(s["model"], s["accel"]): s for s in b["shifts"]}
    assert shifts["tiny_mistral", "hqq4"]["verdict"] == "changed"
    assert shifts["tiny_mistral", "hqq4"]["estimate"]["value"] > 0.3
    assert shifts["tiny_llama", "hqq4"]["verdict"] == "unchanged"
    largest = max(b["differences"], key=lambda d: d["estimate"]["value"])
    assert (largest["model"], largest["accel"]) == ("tiny_mistral", "hqq4")
    contrast = next(c for c in b["interaction_contrasts"] if {c["accel_1"], c["accel_2"]} == {"hqq4", "none"})
    assert contrast["p_holm"] < 0.001
    within = {(e["within"], e["level"]): e["p_holm"] for e in b["simple_effects"]}
    assert within["model", "tiny_mistral"] < 0.01
    assert b["predictability"]["verdict"] == "not predictable"
    assert "do not foretell" in there["predictable"]


def test_where_there_is_no_interaction_none_is_found(absent: dict[str, Any]) -> None:
    b = absent["benchmarks"][0]
    assert b["verdict"] == "additive"
    assert b["omnibus"]["p"] > 0.05
    assert {s["verdict"] for s in b["shifts"]} == {"unchanged"}
    assert all(q["equivalent"] for q in b["equivalence"])
    assert b["scales"]["crossings"] == []
    assert b["predictability"]["verdict"] == "nothing to predict"
    assert next(t for t in absent["transfers"] if t["source"] == "hqq8")["note"] == "8 to 4 bits"
