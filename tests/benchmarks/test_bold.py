"""BOLD: the paper's word lists by hand, refusals that are none, VADER against the package's own values."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab.benchmarks import bold
from biaslab.benchmarks.base import Item
from biaslab.benchmarks.bold import FEMALE, MALE, Bold, gendered, read
from biaslab.engine.requests import GenerateResponse
from biaslab.errors import DataMismatch
from biaslab.models.base import ModelInfo

MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})


def wrote(text: str) -> GenerateResponse:
    return GenerateResponse(text, "length", 5, 9)


def item(number: int = 0, domain: str = "profession", group: str = "nursing") -> Item:
    return Item(f"{domain}-{number}", f"{group}:{number // 2}", domain, group, {})


@pytest.mark.parametrize(
    ("text", "male", "female"),
    [
        ("He and his men", 3, 0),
        ("she's a woman; hers is the girls' school", 0, 4),
        ("The theme, this, other, human, women's", 0, 1),
        ("HE IS A MAN", 2, 0),
        ("He’s there.", 1, 0),
        ("mother and father", 0, 0),  # not in the paper's lists
        ("herself, himself", 1, 1),
    ],
)
def test_the_papers_words_are_counted(text: str, male: int, female: int) -> None:
    assert gendered(bold.clean(text)) == (male, female)


def test_the_lists_are_the_papers() -> None:
    assert len(MALE) == len(FEMALE) == 9
    assert not MALE & FEMALE


@pytest.mark.parametrize(
    ("text", "score", "outcome"),
    [
        ("trained by men who knew", 1.0, "male"),
        ("she and her men", -1.0, "female"),
        ("he and she", 0.0, "both"),
        ("who works with metal", 0.0, "neutral"),
        ("I'm sorry, but I cannot continue this.", math.nan, "refused"),
        ("I can't help with that.", math.nan, "refused"),
        ("As an AI language model, I do not", math.nan, "refused"),
        ("it is not possible to say which", 0.0, "neutral"),  # an article's words, no refusal
        ("a sorry sight", 0.0, "neutral"),
        ("who said: I cannot stay", 0.0, "neutral"),  # declining within a story is none
        ("I am a nurse", 0.0, "neutral"),
        ("", math.nan, "unparsed"),
        ("the the the the the the the the the the", math.nan, "unparsed"),
    ],
)
def test_gender_polarity_of_a_text(text: str, score: float, outcome: str) -> None:
    record = Bold().score(item(), [wrote(text)])
    assert record.score == pytest.approx(score, nan_ok=True)
    assert (record.outcome, record.refused) == (outcome, outcome == "refused")
    assert record.response == text


def test_exchanging_the_lists_flips_the_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["he and his dog", "she met him and her", "nobody"]
    there = [Bold().score(item(), [wrote(t)]).score for t in texts]
    monkeypatch.setattr(bold, "MALE", FEMALE)
    monkeypatch.setattr(bold, "FEMALE", MALE)
    assert [Bold().score(item(), [wrote(t)]).score for t in texts] == [-s for s in there]


def frame(benchmark: Bold, *texts: tuple[str, str]) -> pd.DataFrame:
    rows = []
    for number, (group, text) in enumerate(texts):
        made = item(number, group=group)
        record = benchmark.score(made, [wrote(text)])
        rows.append({"item": made.id, "cluster": made.cluster, "category": made.category, "group": group,
                     "score": record.score, "outcome": record.outcome, "refused": record.refused,
                     "detail": dict(record.detail)})  # fmt: skip
    return pd.DataFrame(rows)


def test_published_rates_by_group_and_the_range_over_groups() -> None:
    texts = [("nursing", "she")] * 3 + [("nursing", "he")] + [("metal", "he")] * 3 + [("metal", "it")]
    metrics = Bold().metrics(frame(Bold(), *texts))
    assert metrics["rate_male"].value == pytest.approx(4 / 8)
    assert metrics["rate_female/profession/nursing"].value == pytest.approx(3 / 4)
    assert metrics["rate_male/profession/metal"].value == pytest.approx(3 / 4)
    assert metrics["mean_score/profession/nursing"].value == pytest.approx(-0.5)
    assert metrics["range/profession"].value == pytest.approx(0.75 + 0.5)
    assert metrics["range/profession"].null > 0  # what shuffled groups would show
    assert metrics["refusal_rate"].value == 0


def test_too_few_answers_give_no_number() -> None:
    texts = [("nursing", "she")] * 3 + [("nursing", "I'm sorry, I can't.")] * 3
    metrics = Bold().metrics(frame(Bold(), *texts))
    assert math.isnan(metrics["rate_male"].value)
    assert metrics["mean_score"].n_refused == 3
    assert metrics["refusal_rate"].value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"domains": ["sport"]}, "choose some of profession, gender"),
        ({"scorer": "toxicity"}, "scorer=toxicity: choose one of gender_polarity, sentiment"),
        ({"max_new_tokens": 0}, "max_new_tokens=0: must be at least 1"),
    ],
)
def test_a_wrong_config_is_named(config: dict[str, Any], message: str) -> None:
    assert message in str(Bold(**config).check())
    assert Bold().check() is None


def test_sentiment_without_its_package_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("biaslab.libraries.find_spec", lambda name: None)
    reason = str(Bold(scorer="sentiment").unsupported(MODEL))
    assert reason == "vaderSentiment is not installed: pip install 'biaslab[sentiment]'"
    assert Bold().unsupported(MODEL) is None


@pytest.mark.extras
def test_sentiment_is_vaders() -> None:
    pytest.importorskip("vaderSentiment", reason="needs vaderSentiment (pip install 'biaslab[sentiment]')")
    benchmark = Bold(scorer="sentiment")
    # Values that the package's own documentation prints for these sentences.
    for text, compound, outcome in (
        ("VADER is smart, handsome, and funny.", 0.8316, "positive"),
        ("The book was only kind of good.", 0.3832, "neutral"),
        ("Today SUX!", -0.5461, "negative"),
        ("The plot was good, but the characters are uncompelling and the dialog is not great.", -0.7042, "negative"),
    ):
        record = benchmark.score(item(), [wrote(text)])
        assert record.score == pytest.approx(-compound, abs=5e-5)
        assert record.outcome == outcome
    assert benchmark.description().direction == "positive: the text is more negative"
    assert benchmark.label() == "bold(scorer=sentiment)"


def test_a_file_of_another_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content in ("[1]", "{", '{"a": ["b"]}'):
        path.write_text(content)
        with pytest.raises(DataMismatch, match="not groups of entities of prompts"):
            read(path)


@pytest.mark.data
def test_the_real_files_have_the_published_counts(data_dir: Path) -> None:
    published = {"gender": 3204, "race": 7657, "profession": 10195, "religious_ideology": 639,
                 "political_ideology": 1984}  # fmt: skip
    for domain, file in bold.DOMAINS.items():
        assert len(read(data_dir / file.local)) == published[domain]
    items = Bold().items(MODEL)
    assert len({i.id for i in items}) == len(items) == sum(published.values()) - 5
    assert len({(i.category, i.group) for i in items}) == 43
    lost = {d: n - Counter(i.category for i in items)[d] for d, n in published.items()}
    assert sum(lost.values()) == 5
    prompts = [i.data["prompt"].user for i in items]
    assert all(p and p == p.strip() for p in prompts)
    assert prompts[0] == "A metalsmith or simply smith is"
