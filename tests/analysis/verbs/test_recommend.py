"""Recommendations: only what is shown to leave bias alone, the front of what it costs, and what is unknown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main
from analysis.study import Arm
from analysis.verbs.recommend import Choice, _front, _ordered, comparable, latency
from tests.analysis.fake import make_sweep


def choices(*costs: tuple[float, float]) -> dict[str, str]:
    found = [Choice("m", f"a{i}", "front", "", memory, latency, math.nan) for i, (memory, latency) in enumerate(costs)]
    return {c.accel: c.choice for c in _front(found)}


def test_the_front_is_what_nothing_beats_in_both_costs() -> None:
    assert choices((1, 9), (2, 5), (3, 6), (4, 1)) == {"a0": "front", "a1": "front", "a2": "beaten", "a3": "front"}
    assert choices((1, 1), (1, 1)) == {"a0": "front", "a1": "front"}  # a tie beats nobody
    assert choices((1, 1), (1, 2)) == {"a0": "front", "a1": "beaten"}


def test_a_cost_that_was_not_measured_settles_nothing() -> None:
    assert choices((1, math.nan), (2, 5)) == {"a0": "front", "a1": "front"}
    assert choices((1, math.nan), (2, math.nan)) == {"a0": "front", "a1": "beaten"}
    assert choices((math.nan, math.nan), (2, 5)) == {"a0": "front", "a1": "front"}


def test_only_choices_can_beat_and_the_order_is_by_memory() -> None:
    places = (("x", "excluded", 1, 1), ("y", "front", 3, 1), ("z", "front", 2, 2))
    found = [Choice("m", accel, choice, "", memory, latency, 1) for accel, choice, memory, latency in places]
    assert [(c.accel, c.choice) for c in _ordered(_front(found))] == [("z", "front"), ("y", "front"), ("x", "excluded")]


def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str, **options: Any
) -> tuple[int, str, dict[Any, Any]]:
    sweep = make_sweep(tmp_path, **{"accels": ("hqq8", "hqq4", "wanda50"), "shift": 0.0, "noise": 0.05} | options)
    code = main(["recommend", f"results={sweep}", f"json={tmp_path / 'r.json'}", *words])
    found = json.loads((tmp_path / "r.json").read_text())["choices"]
    return code, capsys.readouterr().out, {(c["model"], c["accel"]): c for c in found}


def test_a_changed_accelerator_is_excluded_and_the_smaller_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, found = run(tmp_path, capsys, "margin=0.1", interaction=0.5)
    assert code == 0
    assert found["tiny_mistral", "hqq8"]["choice"] == "excluded"  # where the interaction is planted
    assert found["tiny_mistral", "hqq4"]["choice"] == "front"
    assert found["tiny_llama", "hqq8"]["choice"] == "beaten"
    assert found["tiny_llama", "hqq8"]["why"] == "hqq4 costs less"
    assert found["tiny_llama", "hqq4"]["memory"] == pytest.approx(380_000 * 4.5 / 32)
    assert found["tiny_llama", "hqq4"]["latency"] is None
    assert "Unknown: latency of hqq4 of tiny_llama" in out


BARE: dict[str, Any] = {"simulated": None, "facts": []} | dict.fromkeys(
    ("weight_bytes", "bits_per_weight", "sparsity", "perplexity"), math.nan
)


def arm(**known: Any) -> Arm:
    return Arm("m", "a", "accelerated", False, 1.0, 1.0, **BARE | known)


def test_latency_is_of_a_real_kernels_token() -> None:
    assert latency(arm(decode_tokens_per_s=40.0)) == 0.025
    assert latency(arm(decode_tokens_per_s=40.0, simulated=False)) == 0.025
    assert math.isnan(latency(arm(decode_tokens_per_s=40.0, simulated=True)))
    assert math.isnan(latency(arm()))


def test_memory_is_what_all_arms_have() -> None:
    peak, weights = arm(peak_memory_bytes=9.0, weight_bytes=5.0), arm(weight_bytes=6.0)
    assert comparable([peak, peak]) == "peak_memory_bytes"
    assert comparable([peak, weights]) == "weight_bytes"
    assert comparable([weights]) == "weight_bytes"


@pytest.mark.parametrize(("seconds", "choice"), [(0.010, "front"), (0.020, "beaten")])
def test_measured_latency_opens_the_front(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: float, choice: str
) -> None:
    """hqq8 is the larger; wanda50 computes in full precision, so its speed settles nothing."""
    speed = {"hqq8": seconds, "hqq4": 0.015, "wanda50": 0.020}
    overrides = {
        ("tiny_llama", a): {"efficiency": {"weight_bytes": 10 if a == "hqq8" else 5, "decode_tokens_per_s": 1 / s}}
        for a, s in speed.items()
    }
    _, out, found = run(tmp_path, capsys, "margin=0.1", "models=tiny_llama", overrides=overrides)
    assert {a: found["tiny_llama", a]["choice"] for a in speed} == {"hqq8": choice, "hqq4": "front", "wanda50": "front"}
    assert "Memory is of the weights; " in out
    assert "Unknown: latency of wanda50 of tiny_llama: not measured, or simulated" in out


def test_what_is_open_is_no_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, found = run(tmp_path, capsys, "margin=0.001", failed=[("tiny_llama", "hqq4")])
    assert code == 4
    assert "tiny_llama: none is shown to leave bias as it was." in out
    assert found["tiny_llama", "hqq8"]["choice"] == "open"


def test_wrong_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["recommend", f"results={sweep}", "models=gpt"]) == 2
    assert "models=gpt: has no accelerated cell; choose from tiny_llama" in capsys.readouterr().err
    assert main(["recommend", "margin=1"]) == 2
    assert main(["recommend", f"results={sweep}", "margin=-1"]) == 2
    assert "margin=-1: must be above 0" in capsys.readouterr().err


def test_what_was_not_measured_on_a_named_benchmark_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_sweep(tmp_path, accels=("hqq4",), models=("a",), benchmarks=("one",), notes={}, shift=0.0)
    make_sweep(tmp_path, accels=("hqq4",), models=("b",), benchmarks=("two",), notes={}, shift=0.0, sweep_id="other",
               failed=[])  # fmt: skip
    words = ["recommend", f"results={tmp_path / 'outputs' / 'results'}", "margin=5"]
    assert main([*words]) == 0
    capsys.readouterr()
    assert main([*words, "benchmarks=one"]) == 4
    out = capsys.readouterr().out
    assert "not measured on one" in out
    assert "b: none is shown to leave bias as it was." in out


def test_only_the_named_benchmarks_can_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(tmp_path, accels=("hqq4",), models=("a",), benchmarks=("one", "two"), notes={}, shift=0.0)
    for entry in json.loads((sweep / "sweep.json").read_text())["cells"]:
        if entry["benchmark"] == "two":
            (sweep / "../../results" / entry["path"] / "cell.json").unlink()
    assert main(["recommend", f"results={sweep}", "margin=5"]) == 4
    assert "not measured on two" in capsys.readouterr().out
    assert main(["recommend", f"results={sweep}", "margin=5", "benchmarks=one"]) == 0
