"""A class of one's own with a fault in it: what a user sees of it, and when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.run import biaslab

SOURCE = '''from dataclasses import dataclass

from biaslab.benchmarks.base import Benchmark, Item, Meta, Record
from biaslab.benchmarks.metrics import cluster_mean
from biaslab.engine.requests import Choice, Generate, Option, Prompt


@dataclass
class Good(Benchmark):
    """Each item is one question."""

    name = "mine"
    version = 1
    meta = Meta(
        title="Mine", source="mine", licence="CC0-1.0", score_unit="share", score_kind="rate", formula="1 if he",
        cluster="topic", direction="positive: he",
    )

    def items(self, model):
        return [Item(id=f"i{k}", cluster=f"i{k}", category="all", group="") for k in range(4)]

    def requests(self, item):
        return [Choice(Prompt("Who ?"), (Option("he", (" he",)), Option("she", (" she",))))]

    def score(self, item, responses):
        return Record(1.0, "he")

    def metrics(self, records):
        return {"mean": cluster_mean(records["score"], records["cluster"], unit="share", outcomes=records["outcome"])}


@dataclass
class Writes(Good):
    def requests(self, item):
        return [Generate(Prompt("The nurse said that"), 4)]


@dataclass
class WritesAndSaysSo(Writes):
    generates = True


@dataclass
class Kind(Good):
    meta = Meta(
        title="Mine", source="mine", licence="CC0-1.0", score_unit="share", score_kind="logodds", formula="1 if he",
        cluster="topic", direction="positive: he",
    )


@dataclass
class Label(Good):
    def label(self):
        return {}["none"]


@dataclass
class Raises(Good):
    def score(self, item, responses):
        return Record(responses[0].logprob, "he")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(SOURCE)
    return tmp_path


def line(words: str) -> int:
    return SOURCE.splitlines().index(words) + 1


KEY = '        return {}["none"]'
REFUSED = {
    "Writes": f"benchmark mine: Writes.requests, own.py:{line('class Writes(Good):') + 1}: gives Generate, so write "
    "`generates = True` in the class; without it every decoding would be greedy",
    "Kind": "benchmark.custom.target=own.Kind: meta.score_kind='logodds': choose one of log-odds, log-prob, rate",
    "Label": f"KeyError: 'none' (Label.label, own.py:{line(KEY)}); traceback: outputs/refused.log",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_fault_that_can_be_seen_is_one_line_before_a_model_loads(folder: Path, name: str) -> None:
    ended = biaslab(folder, "benchmark=custom", f"benchmark.custom.target=own.{name}", "decoding=sampled5")
    assert (ended.code, ended.out, ended.err) == (2, "", f"biaslab: {REFUSED[name]}\n")
    assert not (folder / "outputs" / "results").exists()
    if name == "Label":
        assert "KeyError: 'none'" in (folder / "outputs" / "refused.log").read_text()


def test_a_class_that_generates_is_asked_in_the_decoding_that_was_typed(folder: Path) -> None:
    words = ("benchmark=custom", "benchmark.custom.target=own.WritesAndSaysSo", "decoding=sampled5", "analysis=skip")
    assert biaslab(folder, *words, "accel=none").code == 0
    (cell,) = (folder / "outputs").rglob("cell.json")
    decoding = json.loads(cell.read_text())["decoding"]
    assert (decoding["mode"], decoding["repeats"]) == ("sampled", 5)


def test_an_exception_of_a_score_says_where_it_and_its_traceback_are(folder: Path) -> None:
    ended = biaslab(folder, "benchmark=custom", "benchmark.custom.target=own.Raises", "accel=none", "analysis=skip")
    assert ended.code == 3
    first = ended.err.splitlines()[0]
    number = line('        return Record(responses[0].logprob, "he")')
    assert (
        f"AttributeError: 'ChoiceResponse' object has no attribute 'logprob' (Raises.score, own.py:{number})" in first
    )
    record = folder / first.rpartition("; traceback: ")[2]
    assert "responses[0].logprob" in json.loads(record.read_text())["traceback"]
