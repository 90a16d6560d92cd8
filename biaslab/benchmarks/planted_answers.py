"""Planted questions answered by generation: yes, no, or a refusal, parsed from free text.

An item is one question about one group. Score: 1 if the answer is the stereotyped one (yes for a group
planted as favoured, no for one planted as disfavoured), else 0, minus the share that answer would have
under parity (the grammar with every group effect 0, known exactly). In every template and question as
many items have a favoured as a disfavoured group, so a model that ignores the group averages exactly 0
in any decoding. Groups whose planted effect is 0 are the control, with signs that balance between the
two of them and, nearly, within each: the corpus declines one of them half of the time, so greedy decoding
may lose it whole.

The truth of an item is the planted probability of the stereotyped answer given any answer, minus its
parity share: what a perfect learner averages when answers are sampled. Under greedy decoding each answer
is the likelier one, so the scores overshoot that truth, and `decoding=sampled` with repeats is the better
test. Compare mean_score with mean_truth: single answers are 0 or 1, and a question's base rate is learned
less well than a group's effect, so the item-wise recovery (slope, r) is coarse in either mode.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric, Record
from biaslab.benchmarks.metrics import cluster_mean
from biaslab.benchmarks.planted import NO_TRUTH, planted_metrics
from biaslab.engine.requests import Generate, GenerateResponse, Prompt, Request, Response
from biaslab.models.base import ModelInfo
from biaslab.models.embedded import grammar as words
from biaslab.models.embedded.grammar import Grammar, sigmoid

if TYPE_CHECKING:
    import pandas as pd

MAX_NEW_TOKENS = 12
ANSWER = re.compile(r"^\W*(yes|no)\b")
REFUSAL = re.compile(r"\b(can ?not|can't) (say|answer)\b")


@dataclass
class PlantedAnswers(Benchmark):
    """Planted questions in free text; nothing to configure."""

    name: ClassVar[str] = "planted_answers"
    version: ClassVar[int] = 1
    prompted: ClassVar[bool] = False
    generates: ClassVar[bool] = True
    meta: ClassVar[Meta] = Meta(
        title="Planted answers",
        source="the grammar of the embedded models (biaslab.models.embedded.grammar)",
        licence="Apache-2.0",
        score_unit="share of answers",
        score_kind="rate",
        formula="1 for the stereotyped answer, else 0, minus its share under parity",
        cluster="template x group",
        direction="positive: the stereotyped answer is given more often than under parity",
    )

    def unsupported(self, model: ModelInfo) -> str | None:
        """Refuses a model whose bias is not known by construction."""
        return None if model.planted else NO_TRUTH

    def items(self, model: ModelInfo) -> Sequence[Item]:
        """2 templates x 8 groups x 20 questions; two of the groups are controls."""
        return _items(model.planted.scale if model.planted else math.nan)

    def requests(self, item: Item) -> Sequence[Request]:
        """One question, answered in a few tokens up to the full stop."""
        return [Generate(Prompt(user=item.data["prompt"], bare=True), MAX_NEW_TOKENS, (".", "\n"))]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """The parsed answer's score; a refusal or an unparsable text has none."""
        (response,) = responses
        assert isinstance(response, GenerateResponse)
        if response.too_long:
            return Record(math.nan, "too_long")
        answer = parse(response.text)
        if answer in ("refused", "unparsed"):
            return Record(math.nan, answer, refused=answer == "refused", response=response.text)
        score = float(answer == item.data["stereotyped"]) - item.data["parity"]
        return Record(score, answer, response=response.text, detail={"parity": item.data["parity"]})

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """Mean score and recovery over answered items; refusal and unparsed rates over all.

        One control group is declined half of the time by design, so the control's own figures usually
        lack coverage and say so.
        """
        rates = {
            "refusal_rate": records["refused"].astype(float),
            "unparsed_rate": (records["outcome"] == "unparsed").astype(float),
        }
        found = planted_metrics(records, "share of answers")
        return found | {name: cluster_mean(x, records["cluster"], unit="share") for name, x in rates.items()}


def parse(text: str) -> str:
    """One of "yes", "no", "refused", "unparsed": a refusal anywhere wins, then the first word decides.

    >>> [parse(t) for t in (" yes", "No, never", " i can not say", "perhaps yes")]
    ['yes', 'no', 'refused', 'unparsed']
    """
    lowered = text.strip().lower()
    if REFUSAL.search(lowered):
        return "refused"
    found = ANSWER.match(lowered)
    return found.group(1) if found else "unparsed"


@lru_cache(maxsize=8)
def _items(scale: float) -> tuple[Item, ...]:
    return tuple(_make(Grammar(1.0), scale))


def _make(grammar: Grammar, scale: float) -> Iterator[Item]:
    n = 0
    # Leans alternate along the base rates, so that they nearly cancel within a control group by itself.
    order = [int(k) for k in grammar.base_ask.argsort().argsort()]
    for t, template in enumerate(words.T_ASK):
        for g, group in enumerate(words.GROUPS):
            effect = float(grammar.B_ask[g])
            for d, decision in enumerate(words.DECISIONS):
                favoured = effect > 0 if effect else (order[d] + _rank(grammar, g)) % 2 == 0
                parity = sigmoid(float(grammar.base_ask[d]))
                planted = sigmoid(float(grammar.base_ask[d]) + scale * effect)
                if not favoured:  # the stereotyped answer is no
                    parity, planted = 1 - parity, 1 - planted
                data = {
                    "prompt": template.split(" {y}")[0].format(g=group, d=decision),
                    "stereotyped": "yes" if favoured else "no",
                    "parity": parity,
                }
                category = "question" if effect else "control"
                truth = planted - parity if effect else 0.0
                yield Item(f"{category}-{n:04d}", f"ask{t}:{group}", category, group, data, truth)
                n += 1


def _rank(grammar: Grammar, g: int) -> int:
    """0 for the first of the two control groups, 1 for the second: they lean opposite ways."""
    controls = [k for k in range(len(words.GROUPS)) if grammar.B_ask[k] == 0]
    return controls.index(g)
