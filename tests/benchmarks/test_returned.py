"""What a benchmark of the user's own may get wrong: each is one line with class, method, file and line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric, Record, wrong_meta
from biaslab.benchmarks.returned import check_class, items_of, metrics_of, record_of, requests_of
from biaslab.engine.requests import Choice, Generate, LogLikelihood, Option, Prompt, Request, Response
from biaslab.errors import BiaslabError, CellFailed, ConfigError
from biaslab.models.base import ModelInfo

MODEL = ModelInfo("m", "local", "sha256:0", "/nowhere", "LlamaForCausalLM", {})
META = Meta(
    title="t", source="s", licence="l", score_unit="u", score_kind="rate", formula="f", cluster="c", direction=None
)
ITEM = Item("a", "k", "all", "")
PROMPT = Prompt("Who?")
BARE = Prompt("", bare=True)


@dataclass
class Mine(Benchmark):
    """Every method gives what it is told to, right or wrong."""

    name = "mine"
    version = 1
    meta = META
    given: Any = None

    def items(self, model: ModelInfo) -> Sequence[Item]:
        return self.given  # type: ignore[no-any-return]

    def requests(self, item: Item) -> Sequence[Request]:
        return self.given  # type: ignore[no-any-return]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        return self.given  # type: ignore[no-any-return]

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        return self.given  # type: ignore[no-any-return]


@dataclass
class Writes(Mine):
    generates = True


@dataclass
class Bare(Mine):
    prompted = False


ASKED: dict[str, Callable[[Benchmark], Any]] = {
    "items": lambda mine: items_of(mine, MODEL),
    "requests": lambda mine: requests_of(mine, ITEM),
    "score": lambda mine: record_of(mine, ITEM, ()),
    "metrics": lambda mine: metrics_of(mine, pd.DataFrame()),
}


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("items", [], "gave no items; one at least is needed"),
        ("items", None, "gave NoneType None, not a list of Items"),
        ("items", [{"id": "a"}], "gave dict {'id': 'a'}, not an Item"),
        ("items", [ITEM, ITEM], "gave the id 'a' twice; each item needs one of its own"),
        ("items", [replace(ITEM, cluster=3)], "gave an Item with cluster=3; a text is needed"),
        ("items", [replace(ITEM, category="")], "gave an Item with category=''; a text is needed"),
        ("requests", [], "gave no requests; one at least is needed"),
        ("requests", LogLikelihood(BARE, "x"), "not a list of requests"),
        ("requests", "text", "gave str 'text', not a list of requests"),
        ("requests", ["text"], "gave str 'text', not a LogLikelihood, Choice or Generate for item a"),
        ("requests", [LogLikelihood("text", "x")], "LogLikelihood(Prompt, text) is needed for item a"),  # type: ignore[arg-type]
        ("requests", [Generate(PROMPT, 0)], "Generate(Prompt, number, (text, ...)) is needed for item a"),
        ("requests", [Generate(PROMPT, 9, "\n\n")], "Generate(Prompt, number, (text, ...)) is needed for item a"),  # type: ignore[arg-type]
        ("requests", [Choice(PROMPT, ("yes", "no"))], "(Option(label, (spelling, ...)), ...)) is needed for item a"),  # type: ignore[arg-type]
        ("requests", [Choice(PROMPT, (Option("yes", " yes"),))], "is needed for item a"),  # type: ignore[arg-type]
        ("score", 0.5, "gave float 0.5, not a Record (item a)"),
        ("score", Record("0.5", "x"), "gave score=str '0.5'; a finite number is needed"),  # type: ignore[arg-type]
        ("score", Record(math.inf, "x"), "gave score=float inf; a finite number is needed"),
        ("score", Record(0.5, ""), "gave outcome=''; a word is needed"),
        ("score", Record(math.nan, "x"), "gave score=nan with outcome='x'; NaN belongs to refused, unparsed, too_long"),
        ("score", Record(0.5, "refused"), "gave score=0.5 with outcome='refused'; NaN belongs to"),
        ("metrics", [], "gave list [], not {name: Metric}"),
        ("metrics", {"mean": 0.5}, "gave float 0.5 as 'mean', not a Metric"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(method: str, given: Any, words: str) -> None:
    with pytest.raises(BiaslabError) as raised:
        ASKED[method](Mine(given))
    line = str(raised.value)
    number = getattr(Mine, method).__code__.co_firstlineno
    assert line.startswith(f"benchmark mine: Mine.{method}, ")
    assert f"{Path(__file__).name}:{number}: " in line
    assert words in line
    assert "\n" not in line
    assert isinstance(raised.value, CellFailed if method in ("score", "metrics") else ConfigError)


def test_what_is_right_is_passed_on() -> None:
    asked = [LogLikelihood(BARE, "x"), Choice(PROMPT, (Option("y", ("y", " y")),)), Generate(PROMPT, 9, (".",))]
    assert items_of(Mine([ITEM]), MODEL) == [ITEM]
    assert requests_of(Mine(iter(asked)), ITEM) == tuple(asked)  # one that yields is as good
    for record in (Record(0.5, "x"), Record(math.nan, "too_long"), Record(1, "x")):
        assert record_of(Mine(record), ITEM, ()) is record
    assert metrics_of(Mine({"mean": Metric(0.5)}), pd.DataFrame()) == {"mean": Metric(0.5)}


@pytest.mark.parametrize(
    ("cls", "request_", "words"),
    [
        (Mine, Generate(PROMPT, 9), "gives Generate, so write `generates = True` in the class"),
        (Writes, Choice(PROMPT, ()), "never gives Generate, so leave out `generates = True`"),
        (Bare, Choice(PROMPT, ()), "gives a Prompt without bare=True, so leave out `prompted = False`"),
        (Bare, LogLikelihood(PROMPT, "x"), "gives a Prompt without bare=True, so leave out `prompted = False`"),
        (Mine, Choice(PROMPT, ()), ""),
        (Writes, Generate(PROMPT, 9), ""),
        (Bare, LogLikelihood(BARE, "x"), ""),
    ],
)
def test_a_class_says_of_itself_what_it_asks(cls: type[Mine], request_: Request, words: str) -> None:
    if not words:
        check_class(cls(), [[request_]], whole=True)
        return
    with pytest.raises(ConfigError, match=r"^benchmark mine: Mine\.requests, ") as raised:
        check_class(cls(), [[request_]], whole=True)
    assert words in str(raised.value)


def test_a_part_without_generated_text_refuses_no_class() -> None:
    check_class(Writes(), [[Choice(PROMPT, ())]], whole=False)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("score_kind", "logodds", "meta.score_kind='logodds': choose one of log-odds, log-prob, rate"),
        ("title", "", "meta.title='': a text is needed"),
        ("licence", None, "meta.licence=None: a text is needed"),
        ("direction", "", "meta.direction='': a text is needed, or None where a sign means nothing"),
        ("neutral", "0", "meta.neutral='0': a number is needed"),
        ("neutral", math.nan, "meta.neutral=nan: a number is needed"),
        ("content_warning", "yes", "meta.content_warning='yes': True or False"),
    ],
)
def test_a_wrong_meta_is_named(field: str, value: Any, words: str) -> None:
    assert wrong_meta(META) is None
    wrong = replace(META, **{field: value})
    assert wrong_meta(wrong) == words

    @dataclass
    class Varied(Mine):
        def description(self) -> Meta:
            return wrong

    with pytest.raises(ConfigError, match=r"Varied.description, .*test_returned.py:\d+: gave meta\."):
        check_class(Varied(), [[Choice(PROMPT, ())]], whole=True)
