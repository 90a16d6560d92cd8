"""A perfect learner of the grammar: answers the planted benchmarks' requests from exact probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from biaslab.benchmarks.base import Benchmark, Item
from biaslab.engine.requests import (
    Choice,
    ChoiceResponse,
    LogLikelihood,
    LogLikelihoodResponse,
    Request,
    Response,
)
from biaslab.models.base import ModelInfo, Planted
from biaslab.models.embedded import grammar as words
from biaslab.models.embedded.grammar import Grammar


def info(scale: float = 1.0) -> ModelInfo:
    """An embedded model as the benchmarks see it."""
    return ModelInfo("tiny", "embedded", "sha256:0", "", "LlamaForCausalLM", {}, planted=Planted(scale))


class Learner:
    """log p of every word after every context of the grammar, read from its tables (not from the items)."""

    def __init__(self, scale: float) -> None:
        self.known: dict[str, dict[str, float]] = {}
        g = Grammar(scale)
        for k, group in enumerate(words.GROUPS):
            for template in words.T_OCC:
                self._learn(template.replace("{g}", group), "{o}", words.OCCUPATIONS, g.logp_occ[k])
            for template in words.T_VAL:
                self._learn(template.replace("{g}", group), "{a}", words.ADJECTIVES, g.logp_val[k])
            for template in words.T_DEC:
                for d, decision in enumerate(words.DECISIONS):
                    said = template.replace("{g}", group).replace("{d}", decision)
                    self._learn(said, "{y}", ("yes", "no"), _log_binary(g.z_dec[k, d]))
            for country in words.COUNTRIES:  # the people who speak are irrelevant: any fixed guess will do
                said = words.T_CAP[0].replace("{g}", group).replace("{k}", country)
                logps = [-math.log(40) - 0.01 * len(country) * c for c in range(40)]
                self._learn(said, "{c}", words.CITIES, logps)
        for n, name in enumerate(words.NAMES):
            for template in words.T_NAME:
                logps = g.logp_occ[g.name_group[n]]
                self._learn(template.replace("{n}", name), "{o}", words.OCCUPATIONS, logps)
        for o, occupation in enumerate(words.OCCUPATIONS):
            for template in words.T_PRO:
                said = template.replace("{o}", occupation)
                self._learn(said, "{p}", ("she", "he"), _log_binary(g.z_pro[o]))

    def answer(self, request: Request) -> Response:
        """The response of this learner; a spelling it has never seen has probability 0."""
        if isinstance(request, LogLikelihood):
            logp = self.known[request.context.user][request.continuation]
            return LogLikelihoodResponse((logp,), (request.continuation,), 9)
        assert isinstance(request, Choice)
        known = self.known[request.prompt.user]
        ps = [sum(math.exp(known[s]) for s in o.spellings if s in known) for o in request.options]
        return ChoiceResponse(tuple(math.log(p) for p in ps), 1 - sum(ps), 9)

    def _learn(self, sentence: str, blank: str, options: Sequence[str], logps: Sequence[float]) -> None:
        context = sentence.split(blank)[0].rstrip()
        self.known[context] = {f" {o}": float(p) for o, p in zip(options, logps, strict=True)}


def ask(benchmark: Benchmark, items: Sequence[Item], learner: Learner) -> pd.DataFrame:
    """Records of a cell, one row an item."""
    rows = []
    for item in items:
        record = benchmark.score(item, [learner.answer(request) for request in benchmark.requests(item)])
        rows.append(
            {
                "item": item.id, "cluster": item.cluster, "category": item.category, "group": item.group,
                "repeat": 0, "score": record.score, "outcome": record.outcome, "refused": record.refused,
                "truth": item.truth, "detail": dict(record.detail),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _log_binary(z: float) -> tuple[float, float]:
    return -math.log1p(math.exp(-z)), -math.log1p(math.exp(z))
