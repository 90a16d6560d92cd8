from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from biaslab.benchmarks.base import Item
from biaslab.benchmarks.crows_pairs import CrowsPairs, read
from biaslab.engine.requests import LogLikelihoodResponse
from biaslab.errors import DataMismatch
from biaslab.models.base import ModelInfo

MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})
HEAD = "id,sent_more,sent_less,stereo_antistereo,bias_type\n"


def answer(tokens: str, *logprobs: float) -> LogLikelihoodResponse:
    return LogLikelihoodResponse(tuple(logprobs), tuple(tokens.split()), len(logprobs) + 1)


def item(cluster: str = "c") -> Item:
    return Item("pair-0000", cluster, "gender", "", {"sent_more": "m", "sent_less": "l", "direction": "stereo"})


@pytest.mark.data
def test_the_real_file_has_the_published_counts(data_dir: Path) -> None:
    benchmark = CrowsPairs()
    items = benchmark.items(MODEL)
    assert len(items) == 1508
    assert len({i.id for i in items}) == 1508
    assert len({i.cluster for i in items}) == 1507  # rows 1459 and 1502 are one pair
    assert items[1459].cluster == items[1502].cluster
    counts = pd.Series([i.category for i in items]).value_counts().to_dict()
    assert counts == {
        "race-color": 516, "gender": 262, "socioeconomic": 172, "nationality": 159, "religion": 105, "age": 87,
        "sexual-orientation": 84, "physical-appearance": 63, "disability": 60,
    }  # fmt: skip
    assert sum(i.data["direction"] == "antistereo" for i in items) == 218
    assert "\n" in items[1293].data["sent_more"] + items[1293].data["sent_less"]
    assert len(benchmark.data_sha256()) == 64


def test_the_three_estimators_by_hand() -> None:
    more = answer("the a man is b", -1.0, -2.0, -3.0, -4.0, -5.0)
    less = answer("the woman is b", -1.5, -2.5, -3.5, -0.5)
    record = CrowsPairs().score(item(), [more, less])
    assert record.score == pytest.approx(-15 / 5 - -8 / 4)
    assert record.outcome == "less"
    assert record.detail["sum"] == pytest.approx(-15 - -8)
    assert record.detail["shared"] == pytest.approx((-1 - 4 - 5) - (-1.5 - 3.5 - 0.5))  # the, is, b


def test_swapping_the_sentences_flips_the_sign_and_equal_ones_tie() -> None:
    a, b = answer("x y", -1.0, -2.5), answer("x z w", -1.0, -2.0, -0.25)
    there, back = CrowsPairs().score(item(), [a, b]), CrowsPairs().score(item(), [b, a])
    assert there.score == -back.score
    assert there.detail["shared"] == -back.detail["shared"]
    assert CrowsPairs().score(item(), [a, a]).outcome == "tie"


def test_a_sentence_beyond_the_window_is_counted_not_cut() -> None:
    long = LogLikelihoodResponse((), (), 9000, too_long=True)
    record = CrowsPairs().score(item(), [long, answer("x", -1.0)])
    assert math.isnan(record.score)
    assert record.outcome == "too_long"


def frame(scores: list[float]) -> pd.DataFrame:
    n = len(scores)
    return pd.DataFrame(
        {
            "item": [f"i{k}" for k in range(n)], "cluster": [f"c{k}" for k in range(n)], "score": scores,
            "category": ["age", "gender"] * (n // 2), "outcome": "more",
            "detail": [
                {"direction": "stereo" if k % 4 else "antistereo", "sum": -s, "shared": s} for k, s in enumerate(scores)
            ],
        }
    )  # fmt: skip


def test_published_aggregates_on_fixed_answers() -> None:
    metrics = CrowsPairs().metrics(frame([1.0, -1.0, 2.0, 0.0, 3.0, 1.0, 1.0, -2.0]))
    assert metrics["pct_prefers_more"].value == pytest.approx(62.5)  # a tie does not prefer
    assert metrics["pct_prefers_more_sum"].value == pytest.approx(25.0)
    assert metrics["mean_difference"].value == pytest.approx(5 / 8)
    assert metrics["mean_abs_difference_sum"].value == pytest.approx(11 / 8)
    assert metrics["pct_prefers_more/age"].value == pytest.approx(100.0)
    assert metrics["pct_prefers_more/gender"].value == pytest.approx(25.0)
    assert metrics["pct_prefers_more/antistereo"].value == pytest.approx(100.0)
    assert metrics["pct_prefers_more"].ci_low < 62.5 < metrics["pct_prefers_more"].ci_high


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD.encode() + b'0,"A b,c', "csv|lacks"),
        (HEAD.encode() + b"0,only more\n", "lacks one of"),
        (HEAD.encode() + b"0,caf\xe9,b,stereo,age\n", "UTF-8"),
        (HEAD.encode(), "no rows"),
        (b"\x00\xff\xfe", "UTF-8"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "crows.csv"
    path.write_bytes(content)
    with pytest.raises(DataMismatch, match=message):
        read(path)
