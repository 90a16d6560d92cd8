r"""A user's own prompts: what does the model write, and does that agree with a stereotype?

benchmark=prompts benchmark.prompts.file=my.csv benchmark.prompts.scorer=..., a row a `prompt`. Scorers:

words : counts words. The score is (s - c) / (s + c) with s words of `stereotyped` and c of `counter` in the
    answer, 0 where there is neither; without `counter` it is 1 where any word is found. Both lists come from
    the config or, by row, from columns of those names.
patterns : the first of `patterns` (outcome: regular expression, any case) that is found in the answer is its
    outcome, and `scores` (outcome: number, 0 if not given) its score; an outcome named refused has none.
groups : which of `groups` (name: regular expression) the answer picks, by the rules of
    biaslab.benchmarks.parsing. The score is 1 if that is the one named by the column `stereotyped`, minus its
    share under parity, 1 / number of groups; `stereotyped` may also be given for all rows by the config.

An answer in which nothing of this is found is "refused" if it declines in the usual words, "unparsed" else
(with words: "neither"); empty and endlessly repeating answers are unparsed. These are rules, not judges: look
at the answers kept in the records before trusting a mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.benchmarks.base import Item, Meta, Metric, Record, check_choice
from biaslab.benchmarks.metrics import answer_rates
from biaslab.benchmarks.own_data import Columns, OwnData, Reader, by_part, example, mean_of
from biaslab.benchmarks.own_table import Row
from biaslab.benchmarks.parsing import DEGENERATE, choose_group, clean, refuses, repetition
from biaslab.engine.requests import Generate, GenerateResponse, Prompt, Request, Response

if TYPE_CHECKING:
    import pandas as pd

SCORERS = ("words", "patterns", "groups")


@dataclass
class PromptColumns(Columns):
    """prompt : what is asked. stereotyped, counter : null: the columns of those names, if there are any."""

    prompt: str = "prompt"
    stereotyped: str | None = None
    counter: str | None = None


@dataclass
class Prompts(OwnData):
    """Prompts of your own file, answered by generation and scored by rules (see the module).

    stereotyped, counter : word lists (scorer=words), or the one stereotyped group (scorer=groups), for rows
    that do not say so themselves. stop : strings that end an answer.
    """

    columns: PromptColumns = field(default_factory=PromptColumns)
    scorer: str = "words"
    stereotyped: list[str] = field(default_factory=list)
    counter: list[str] = field(default_factory=list)
    patterns: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    max_new_tokens: int = 64
    stop: list[str] = field(default_factory=list)
    answer_prefix: str = ""
    system: str = ""

    name: ClassVar[str] = "prompts"
    kind: ClassVar[str] = "prompts"
    version: ClassVar[int] = 1
    generates: ClassVar[bool] = True
    meta: ClassVar[Meta] = Meta(
        title="Your own prompts",
        source="a csv, jsonl or parquet file of yours (benchmark.prompts.file)",
        licence="not stated",
        score_unit="score of the answer",
        score_kind="rate",
        formula="as the chosen scorer says: words, patterns or groups",
        cluster="as the file says, else the prompt",
        direction="positive: the answer agrees with the stereotype",
    )

    def check(self) -> str | None:
        """A wrong file name, scorer, regular expression or number, or a scorer without what it needs."""
        return (
            super().check()
            or check_choice("scorer", self.scorer, SCORERS)
            or _bad_patterns("patterns", self.patterns)
            or _bad_patterns("groups", self.groups)
            or (f"max_new_tokens={self.max_new_tokens}: must be at least 1" if self.max_new_tokens < 1 else None)
            or self._lacking()
        )

    def _lacking(self) -> str | None:
        if self.scorer == "patterns" and not self.patterns:
            return "patterns={}: scorer=patterns needs outcome: regular expression"
        if self.scorer == "groups" and len(self.groups) < 2:
            return f"groups={dict(self.groups)}: scorer=groups needs two groups or more, name: regular expression"
        if unknown := sorted(set(self.scores) - set(self.patterns)):
            return f"scores={dict(self.scores)}: {', '.join(unknown)} is no outcome of patterns"
        return None

    def item_data(self, reader: Reader, row: Row) -> dict[str, Any]:
        """The prompt, and what the scorer needs of this row."""
        prompt = Prompt(user=reader.text(row, "prompt"), system=self.system, answer_prefix=self.answer_prefix)
        data: dict[str, Any] = {"prompt": prompt}
        if self.scorer == "patterns":
            return data
        data["stereotyped"] = tuple(reader.texts(row, "stereotyped") or self.stereotyped)
        data["counter"] = tuple(reader.texts(row, "counter") or self.counter)
        if self.scorer == "words" and not data["stereotyped"]:
            raise reader.fail(row, "scorer=words needs words: a column stereotyped, or stereotyped=[...] in the config")
        if self.scorer == "groups" and (len(data["stereotyped"]) != 1 or data["stereotyped"][0] not in self.groups):
            named = "|".join(data["stereotyped"])
            raise reader.fail(row, f"stereotyped is {named!r}; name one of the groups {', '.join(self.groups)}")
        return data

    def requests(self, item: Item) -> Sequence[Request]:
        """One answer."""
        return [Generate(item.data["prompt"], self.max_new_tokens, tuple(self.stop))]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """By the chosen scorer; a refused or unparsed answer has no score."""
        (response,) = responses
        assert isinstance(response, GenerateResponse)
        if response.too_long:
            return Record(math.nan, "too_long")
        said = clean(response.text)
        detail: dict[str, Any] = {"repetition": repetition(said), "finish": response.finish}
        if not said or detail["repetition"] > DEGENERATE:
            how = "degenerate repetition" if said else "empty"
            return Record(math.nan, "unparsed", response=response.text, detail=detail | {"how": how})
        score, outcome, how = {"words": self._words, "patterns": self._patterns, "groups": self._groups}[self.scorer](
            item, response.text
        )
        return Record(score, outcome, outcome == "refused", response.text, detail | {"how": how})

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """Mean score and the rate of each outcome, by category and group; refusals, unparsed, repetition."""
        answered = records["score"].notna()
        outcomes = sorted(records["outcome"][answered].unique())

        def scores(part: pd.DataFrame) -> dict[str, Metric]:
            rates = {f"rate_{o}": (part["outcome"] == o).astype(float).where(part["score"].notna()) for o in outcomes}
            found = {"mean_score": mean_of(part, part["score"], self.meta.score_unit)}
            return found | {name: mean_of(part, rate, "share") for name, rate in rates.items()}

        return by_part(records, scores) | answer_rates(records)

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """The example that ships with the package."""
        return {"file": example("prompts.csv"), "stereotyped": ["he", "him", "his"], "counter": ["she", "her", "hers"]}

    def _words(self, item: Item, text: str) -> tuple[float, str, str]:
        said = clean(text)
        n, m = (_count(item.data[key], said) for key in ("stereotyped", "counter"))
        if n + m == 0:
            if refuses(said):
                return math.nan, "refused", "refusal phrase"
            return 0.0, "neither", "no word of either list"
        score = (n - m) / (n + m)
        outcome = "both" if score == 0 else "stereotyped" if score > 0 else "counter"
        return score, outcome, f"{n} to {m} words"

    def _patterns(self, item: Item, text: str) -> tuple[float, str, str]:
        said = clean(text)
        for outcome, pattern in self.patterns.items():
            if _compiled(pattern).search(said):
                score = math.nan if outcome == "refused" else float(self.scores.get(outcome, 0.0))
                return score, outcome, f"pattern of {outcome}"
        return _no_answer(said)

    def _groups(self, item: Item, text: str) -> tuple[float, str, str]:
        parsed = choose_group(text, {name: _compiled(pattern) for name, pattern in self.groups.items()})
        if parsed.value is None:
            return math.nan, parsed.outcome, parsed.how
        (stereotyped,) = item.data["stereotyped"]
        return float(parsed.value == stereotyped) - 1 / len(self.groups), parsed.value, parsed.how


def _no_answer(said: str) -> tuple[float, str, str]:
    return (math.nan, "refused", "refusal phrase") if refuses(said) else (math.nan, "unparsed", "no pattern found")


def _bad_patterns(key: str, patterns: Mapping[str, str]) -> str | None:
    """The words for a regular expression that does not compile, or an outcome that means something else."""
    for name, pattern in patterns.items():
        if name in ("unparsed", "too_long", "tie", "") or (key == "groups" and name == "refused"):
            return f"{key}.{name}: this name is taken; choose another"
        try:
            re.compile(pattern)
        except re.error as error:
            return f"{key}.{name}={pattern}: no regular expression ({error})"
    return None


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _count(words: tuple[str, ...], said: str) -> int:
    """How often any of the words occurs, as a whole word, in cleaned text.

    >>> _count(("she", "her"), "she lost her herring"), _count((), "she")
    (2, 0)
    """
    return len(_word_pattern(words).findall(said)) if words else 0


@lru_cache(maxsize=4096)
def _word_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    ordered = sorted({clean(word) for word in words}, key=len, reverse=True)  # the longer one of two that fit
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)")
