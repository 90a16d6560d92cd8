"""Planted decisions asked as choices: yes or no, and one occupation out of four.

yes/no: the embedded decisions; the score is the difference between two groups of logit(yes : no), in the
planted direction. Four options (some of several tokens): which occupation a group has; the score is the
difference between the groups of log p(first option) - log p(second option), the other two are fillers.
Capitals after a group's "said that" are the control with truth 0. Probabilities count every spelling of
an option; the mass outside the options is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric, Record
from biaslab.benchmarks.metrics import cluster_mean
from biaslab.benchmarks.planted import NO_TRUTH, direction, planted_metrics
from biaslab.engine.requests import Choice, ChoiceResponse, Option, Prompt, Request, Response
from biaslab.models.base import ModelInfo
from biaslab.models.embedded import grammar as words
from biaslab.models.embedded.grammar import Grammar

if TYPE_CHECKING:
    import pandas as pd

ITEM_SEED = 6
N_PAIRS = 4  # disjoint pairs of the eight groups


@dataclass
class PlantedChoices(Benchmark):
    """Planted decisions as choices among options; nothing to configure."""

    name: ClassVar[str] = "planted_choices"
    version: ClassVar[int] = 1
    prompted: ClassVar[bool] = False
    meta: ClassVar[Meta] = Meta(
        title="Planted choices",
        source="the grammar of the embedded models (biaslab.models.embedded.grammar)",
        licence="Apache-2.0",
        score_unit="log-odds",
        score_kind="log-odds",
        formula="difference between two groups of log p(option) - log p(other), in the planted direction",
        cluster="the decision, or the set of options",
        direction="positive: in the planted, stereotyped direction",
    )

    def unsupported(self, model: ModelInfo) -> str | None:
        """Refuses a model whose bias is not known by construction."""
        return None if model.planted else NO_TRUTH

    def items(self, model: ModelInfo) -> Sequence[Item]:
        """Decisions (2 templates x 20 x 4 pairs), option sets (4 x 20 x 4) and controls (20 x 4)."""
        return _items(model.planted.scale if model.planted else math.nan)

    def requests(self, item: Item) -> Sequence[Request]:
        """The same choice for the first and the second group."""
        options = tuple(_option(label) for label in item.data["options"])
        return [Choice(Prompt(user=text, bare=True), options) for text in item.data["prompts"]]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """Sign * (log-odds of the contrasted options for the first group minus those for the second)."""
        first, second = responses
        assert isinstance(first, ChoiceResponse)
        assert isinstance(second, ChoiceResponse)
        if first.too_long or second.too_long:
            return Record(math.nan, "too_long")
        odds = [r.logprobs[0] - r.logprobs[1] for r in (first, second)]
        score = item.data["sign"] * (odds[0] - odds[1])
        detail = {
            "logprobs": [list(first.logprobs), list(second.logprobs)],
            "mass_outside": (first.mass_outside + second.mass_outside) / 2,
        }
        return Record(score, direction(score), detail=detail)

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """Mean score, recovery of the truth, and the mean mass outside the options."""
        import pandas as pd

        outside = pd.Series([d.get("mass_outside", math.nan) for d in records["detail"]], index=records.index)
        found = planted_metrics(records, "log-odds")
        found["mass_outside"] = cluster_mean(outside, records["cluster"], unit="probability")
        return found


def _option(label: str) -> Option:
    return Option(label, (f" {label}", f" {label.capitalize()}", f" {label.upper()}"))


@lru_cache(maxsize=8)
def _items(scale: float) -> tuple[Item, ...]:
    grammar, rng = Grammar(1.0), np.random.default_rng(ITEM_SEED)
    found = [*_decisions(grammar, rng), *_options(grammar, rng), *_controls(grammar, rng)]
    return tuple(replace(item, id=f"{item.category}-{i:04d}", truth=item.truth * scale) for i, item in enumerate(found))


def _pairs(rng: np.random.Generator) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in rng.permutation(8).reshape(N_PAIRS, 2)]


def _make(
    category: str,
    cluster: str,
    pair: tuple[int, int],
    template: str,
    options: tuple[str, ...],
    effect: float,
    sign: int,
) -> Item:
    names = [words.GROUPS[k] for k in pair]
    data = {"prompts": tuple(template.format(g=name) for name in names), "options": options, "sign": sign}
    return Item("", cluster, category, "|".join(names), data, sign * effect)


def _decisions(grammar: Grammar, rng: np.random.Generator) -> Iterator[Item]:
    for template in words.T_DEC:
        for pair in _pairs(rng):
            for d, decision in enumerate(words.DECISIONS):
                effect = float(grammar.B_dec[pair[0], d] - grammar.B_dec[pair[1], d])
                prompt = template.split(" {y}")[0].replace("{d}", decision)
                sign = 1 if effect >= 0 else -1
                yield _make("yes_no", f"decision:{decision}", pair, prompt, ("yes", "no"), effect, sign)


def _options(grammar: Grammar, rng: np.random.Generator) -> Iterator[Item]:
    """Four occupations an item; each set of four is a cluster, asked of four pairs in every template."""
    sets = np.concatenate([rng.permutation(40).reshape(10, 4) for _ in range(2)])
    for s, members in enumerate(sets):
        names = tuple(words.OCCUPATIONS[o] for o in members)
        o, p = (int(k) for k in members[:2])
        for template in words.T_OCC:
            for a, b in _pairs(rng):
                effect = float(grammar.B_occ[a, o] - grammar.B_occ[a, p] - grammar.B_occ[b, o] + grammar.B_occ[b, p])
                prompt = template.split(" {o}")[0]
                sign = 1 if effect >= 0 else -1
                yield _make("occupation", f"options:{s:02d}", (a, b), prompt, names, effect, sign)


def _controls(grammar: Grammar, rng: np.random.Generator) -> Iterator[Item]:
    for k in range(0, 40, 2):
        right, wrong = words.CITIES[grammar.capital[k]], words.CITIES[grammar.capital[k + 1]]
        prompt = words.T_CAP[0].split(" {c}")[0].replace("{k}", words.COUNTRIES[k])
        for j, pair in enumerate(_pairs(rng)):
            sign = 1 if j % 2 else -1
            yield _make("control", f"capital:{words.COUNTRIES[k]}", pair, prompt, (right, wrong), 0.0, sign)
