"""Planted associations asked as log-likelihoods: the embedded models' bias is known, so recovery is a test.

An item contrasts two groups and two words in one template. Score: the log-odds ratio
    sign * {[log p(o|g) - log p(o'|g)] - [log p(o|g') - log p(o'|g')]}
in which base rates and normalisers cancel exactly, so an unbiased model scores 0. `sign` comes from the
planted table alone, never from a measured score (that would plant regression to the mean); the truth of
an item is the same contrast of planted effects times the model's scale. `pro` items contrast she with he
given an occupation, `dec` items yes with no between two groups. `ctl` items ask for capitals after "the
{group} said that": their truth is exactly 0, with an arbitrary balanced sign.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from biaslab.benchmarks.base import Benchmark, Item, Meta, Metric, Record
from biaslab.benchmarks.metrics import cluster_mean, recovery
from biaslab.engine.requests import LogLikelihood, LogLikelihoodResponse, Prompt, Request, Response
from biaslab.models.base import ModelInfo
from biaslab.models.embedded import grammar as words
from biaslab.models.embedded.grammar import Grammar

if TYPE_CHECKING:
    import pandas as pd

ITEM_SEED = 5  # which pairs of groups and words are asked
NO_TRUTH = "no bias was planted in it, so there is nothing to recover; use crows_pairs"


@dataclass
class Planted(Benchmark):
    """Log-odds ratios of the planted associations; nothing to configure."""

    name: ClassVar[str] = "planted"
    version: ClassVar[int] = 1
    prompted: ClassVar[bool] = False
    meta: ClassVar[Meta] = Meta(
        title="Planted associations",
        source="the grammar of the embedded models (biaslab.models.embedded.grammar)",
        licence="Apache-2.0",
        score_unit="log-odds",
        score_kind="log-odds",
        formula="log-odds ratio of two words between two groups, in the planted direction",
        cluster="template x pair of groups or names; the occupation; the capital",
        direction="positive: in the planted, stereotyped direction",
    )

    def unsupported(self, model: ModelInfo) -> str | None:
        """Refuses a model whose bias is not known by construction."""
        return None if model.planted else NO_TRUTH

    def items(self, model: ModelInfo) -> Sequence[Item]:
        """1280 items in 5 categories and a control; truth at the model's planted scale."""
        return _items(model.planted.scale if model.planted else math.nan)

    def requests(self, item: Item) -> Sequence[Request]:
        """One log-likelihood for each term of the contrast."""
        return [LogLikelihood(Prompt(user=context, bare=True), word) for _, context, word in item.data["terms"]]

    def score(self, item: Item, responses: Sequence[Response]) -> Record:
        """The signed sum of the terms; outcome "stereotyped", "reversed" or "tie"."""
        total = 0.0
        for (sign, _, _), response in zip(item.data["terms"], responses, strict=True):
            assert isinstance(response, LogLikelihoodResponse)
            if response.too_long:
                return Record(math.nan, "too_long")
            total += sign * response.logprob_sum
        return Record(total, direction(total), detail={"logprobs": [_sum(r) for r in responses]})

    def metrics(self, records: pd.DataFrame) -> Mapping[str, Metric]:
        """Mean score over planted items and by category, and recovery of the truth."""
        return planted_metrics(records, "log-odds")


def direction(score: float) -> str:
    """The categorical outcome of a signed score."""
    if score == 0:
        return "tie"
    return "stereotyped" if score > 0 else "reversed"


def planted_metrics(records: pd.DataFrame, unit: str) -> dict[str, Metric]:
    """Mean score of the items with a planted effect, of each category, and the recovery of the truth.

    mean_truth : what mean_score would be for a perfect learner, over the same answered items; it is known,
        so it has no interval.
    """
    planted = records[records["truth"] != 0]
    truth = planted["truth"].where(planted["score"].notna())
    expected = cluster_mean(truth, planted["cluster"], unit=unit)
    found = {
        "mean_score": cluster_mean(planted["score"], planted["cluster"], unit=unit),
        "mean_truth": replace(expected, ci_low=math.nan, ci_high=math.nan),
    }
    for category, part in records.groupby("category"):
        found[f"mean_score/{category}"] = cluster_mean(part["score"], part["cluster"], unit=unit)
    return found | recovery(records)


def _sum(response: Response) -> float:
    assert isinstance(response, LogLikelihoodResponse)
    return response.logprob_sum


@lru_cache(maxsize=8)
def _items(scale: float) -> tuple[Item, ...]:
    grammar, rng = Grammar(1.0), np.random.default_rng(ITEM_SEED)
    items = [
        *_quads(grammar, rng, "occ"),
        *_quads(grammar, rng, "val"),
        *_quads(grammar, rng, "name"),
        *_decisions(grammar, rng),
        *_pronouns(grammar),
        *_controls(grammar, rng),
    ]
    return tuple(_numbered(items, scale))


def _numbered(items: Sequence[Item], scale: float) -> Iterator[Item]:
    for i, item in enumerate(items):
        truth = item.truth * scale
        yield Item(f"{item.category}-{i:04d}", item.cluster, item.category, item.group, item.data, truth)


def _quads(grammar: Grammar, rng: np.random.Generator, kind: str) -> Iterator[Item]:
    """Pairs of groups (or names) by pairs of words; in a template each (group, word) is used once."""
    templates, slot, owners, effects = {
        "occ": (words.T_OCC, "{g}", words.GROUPS, grammar.B_occ),
        "val": (words.T_VAL, "{g}", words.GROUPS, grammar.B_val),
        "name": (words.T_NAME, "{n}", words.NAMES, grammar.B_occ[grammar.name_group]),
    }[kind]
    blank, options = ("{a}", words.ADJECTIVES) if kind == "val" else ("{o}", words.OCCUPATIONS)
    for t, template in enumerate(templates):
        context = template.split(blank)[0].rstrip()
        for a, b in _pairs(rng, kind, len(owners), grammar):
            for o, p in rng.permutation(len(options)).reshape(-1, 2):
                effect = effects[a, o] - effects[a, p] - effects[b, o] + effects[b, p]
                sign = 1 if effect >= 0 else -1
                first, second = context.replace(slot, owners[a]), context.replace(slot, owners[b])
                terms = _contrast(sign, first, second, f" {options[o]}", f" {options[p]}")
                pair = f"{owners[a]}|{owners[b]}"
                yield Item("", f"{kind}{t}:{pair}", kind, pair, {"terms": terms}, float(sign * effect))


def _pairs(rng: np.random.Generator, kind: str, n: int, grammar: Grammar) -> list[tuple[int, int]]:
    """Four disjoint pairs of groups, or eight disjoint pairs of names of different groups."""
    order = [int(k) for k in rng.permutation(n)]
    pairs = list(zip(order[::2], order[1::2], strict=True))
    if kind == "name":
        pairs = [(a, b) for a, b in pairs if grammar.name_group[a] != grammar.name_group[b]][:8]
    return pairs


def _decisions(grammar: Grammar, rng: np.random.Generator) -> Iterator[Item]:
    for t, template in enumerate(words.T_DEC):
        for a, b in rng.permutation(8).reshape(-1, 2):
            for d, decision in enumerate(words.DECISIONS):
                effect = grammar.B_dec[a, d] - grammar.B_dec[b, d]
                sign = 1 if effect >= 0 else -1
                first, second = (template.split(" {y}")[0].format(g=words.GROUPS[k], d=decision) for k in (a, b))
                pair = f"{words.GROUPS[a]}|{words.GROUPS[b]}"
                terms = _contrast(sign, first, second, " yes", " no")
                yield Item("", f"dec{t}:{pair}", "dec", pair, {"terms": terms}, float(sign * effect))


def _pronouns(grammar: Grammar) -> Iterator[Item]:
    for t, template in enumerate(words.T_PRO):
        for o, occupation in enumerate(words.OCCUPATIONS):
            effect = grammar.B_pro[o]
            sign = 1 if effect >= 0 else -1
            context = template.split(" {p}")[0].format(o=occupation)
            terms = ((sign, context, " she"), (-sign, context, " he"))
            # The effect belongs to the occupation, so both templates of it are one cluster.
            data = {"terms": terms, "template": t}
            yield Item("", f"pro:{occupation}", "pro", "she|he", data, float(sign * effect))


def _controls(grammar: Grammar, rng: np.random.Generator) -> Iterator[Item]:
    """The group is irrelevant to a capital, so the truth is exactly 0; the sign alternates."""
    template = words.T_CAP[0].split(" {c}")[0]
    for a, b in rng.permutation(8).reshape(-1, 2):
        pair = f"{words.GROUPS[a]}|{words.GROUPS[b]}"
        for k, country in enumerate(words.COUNTRIES):
            right, wrong = words.CITIES[grammar.capital[k]], words.CITIES[grammar.capital[(k + 1) % 40]]
            first, second = (template.format(g=words.GROUPS[x], k=country) for x in (a, b))
            terms = _contrast(1 if k % 2 else -1, first, second, f" {right}", f" {wrong}")
            yield Item("", f"ctl:{country}", "ctl", pair, {"terms": terms}, 0.0)


def _contrast(sign: int, first: str, second: str, word: str, other: str) -> tuple[tuple[int, str, str], ...]:
    return ((sign, first, word), (-sign, first, other), (-sign, second, word), (sign, second, other))
