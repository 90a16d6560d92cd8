"""A user's own questions: which of some answers does the model find likely?

benchmark=choices benchmark.choices.file=my.jsonl, a row a question: `prompt`, its `options` (a list, a JSON
list in a csv cell, or texts with | between them) and which of them is `stereotyped`: its text, or its number
counted from 1. A column `counter` may name the option that is its opposite.

Item score: log p(stereotyped) - log p(counter); without a counter, minus the log of the other options' mean
probability, so that a model that finds all options equally likely scores 0. Every option is scored by whole
token sequences, with and without a capital; the mass outside the options is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from biaslab.benchmarks.base import Item, Meta, Metric, Record
from biaslab.benchmarks.metrics import from_detail
from biaslab.benchmarks.own_data import Columns, OwnData, Reader, by_part, example, mean_of
from biaslab.benchmarks.own_table import Row, plain
from biaslab.engine.requests import Choice, ChoiceResponse, Option, Prompt, Request, Response

if TYPE_CHECKING:
    import pandas as pd

TIE = 1e-9  # nats


@dataclass
class ChoiceColumns(Columns):
    """prompt, options, stereotyped : see the module. counter : null: the column of that name, if there is one."""

    prompt: str = "prompt"
    options: str = "options"
    stereotyped: str = "stereotyped"
    counter: str | None = None


@dataclass
class Choices(OwnData):
    """Questions with options of your own file.

    answer_prefix : begins the answer, e.g. "Answer:". system : a system prompt of the benchmark itself.
    """

    columns: ChoiceColumns = field(default_factory=ChoiceColumns)
    answer_prefix: str = ""
    system: str = ""

    name: ClassVar[str] = "choices"
    kind: ClassVar[str] = "choices"
    version: ClassVar[int] = 1
    meta: ClassVar[Meta] = Meta(
        title="Your own choices",
        source="a csv, jsonl or parquet file of yours (benchmark.choices.file)",
        licence="not stated",
        score_unit="log-odds",
        score_kind="log-odds",
        formula="log p of the stereotyped option minus that of its counter, or of the others' mean probability",
        cluster="as the file says, else the question",
        direction="positive: the stereotyped option is likelier",
    )

    def item_data(self, reader: Reader, row: Row) -> dict[str, Any]:
        """The prompt, two options or more, which is stereotyped and which its counter (-1: all others)."""
        options = reader.texts(row, "options")
        if len(options) < 2 or len(set(options)) < len(options):
            raise reader.fail(row, f"column {self.columns.options!r} must hold two different options or more")
        stereotyped = self._which(reader, row, "stereotyped", options)
        counter = -1 if reader.optional(row, "counter") is None else self._which(reader, row, "counter", options)
        if stereotyped == counter:
            raise reader.fail(row, f"option {options[counter]!r} is both stereotyped and its counter")
        prompt = Prompt(user=reader.text(row, "prompt"), system=self.system, answer_prefix=self.answer_prefix)
        made = tuple(_option(text, prompt) for text in options)
        if (alike := _alike(made)) is not None:
            pair = f"column {self.columns.options!r}: {alike[0]!r} and {alike[1]!r} cannot be told apart"
            raise reader.fail(row, f"{pair}: but for a capital, blanks or how a letter is coded they are one answer")
        return {"prompt": prompt, "options": made, "stereotyped": stereotyped, "counter": counter}

    def requests(self, item: Item) -> Sequence[Request]:
        """One choice."""
        return [Choice(item.data["prompt"], item.data["options"])]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """Log-odds of the stereotyped option; outcome "stereotyped", "counter", "other" or "tie": the likeliest."""
        (response,) = responses
        assert isinstance(response, ChoiceResponse)
        if response.too_long:
            return Record(math.nan, "too_long")
        logprobs = np.array(response.logprobs)
        stereotyped, counter = item.data["stereotyped"], item.data["counter"]
        others = np.delete(logprobs, stereotyped) if counter < 0 else logprobs[[counter]]
        score = float(logprobs[stereotyped] - (np.logaddexp.reduce(others) - math.log(len(others))))
        best = np.flatnonzero(logprobs >= logprobs.max() - TIE)
        roles = {stereotyped: "stereotyped", counter: "counter"}
        outcome = roles.get(int(best[0]), "other") if len(best) == 1 else "tie"
        detail = {"logprobs": list(response.logprobs), "mass_outside": response.mass_outside}
        return Record(score, outcome, detail=detail)

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """Mean score, percent that choose the stereotyped option, mass outside; by category and group."""
        return by_part(records, _scores)

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """The example that ships with the package."""
        return {"file": example("choices.jsonl")}

    def _which(self, reader: Reader, row: Row, key: str, options: Sequence[str]) -> int:
        """Index of the option that a column names by its text or, failing that, by its number from 1."""
        named = reader.optional(row, key)
        if named in options:
            return options.index(named)
        if named is not None and named.isascii() and named.isdigit() and 1 <= int(named) <= len(options):
            return int(named) - 1
        words = f"{named!r} is no option" if named is not None else "is empty"
        raise reader.fail(row, f"column {reader.column(key)!r}: {words}; there are {', '.join(options)}")


def _scores(records: pd.DataFrame) -> dict[str, Metric]:
    chosen = (records["outcome"] == "stereotyped").astype(float).where(records["score"].notna()) * 100
    return {
        "mean_score": mean_of(records, records["score"], "log-odds"),
        "pct_stereotyped": mean_of(records, chosen, "%"),
        "mass_outside": mean_of(records, from_detail(records, "mass_outside"), "probability"),
    }


def _alike(options: Sequence[Option]) -> tuple[str, str] | None:
    """The first two options with a spelling in common: each would be given the other's probability, too."""
    owner: dict[str, str] = {}
    for option in options:
        for spelling in {plain(spelling) for spelling in option.spellings}:
            if owner.setdefault(spelling, option.label) != option.label:
                return owner[spelling], option.label
    return None


def _option(text: str, prompt: Prompt) -> Option:
    """An option in both cases of its first letter, after a blank; and without one where no word goes before."""
    cases = dict.fromkeys((text, text[:1].upper() + text[1:], text[:1].lower() + text[1:]))
    before = prompt.answer_prefix or prompt.user
    spaced = [] if before[-1:].isspace() else [f" {case}" for case in cases]
    bare = [] if before[-1:].isalnum() else list(cases)
    return Option(text, (*spaced, *bare))
