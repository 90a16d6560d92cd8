"""What an embedded model has learned, written to its truth.json: `python -m biaslab.models.embedded.measure`.

The loss hides the planted associations (.003 nats above the entropy floor can still leave half a unit of
log-odds unlearned), so a model is judged by how well its scores recover the planted truth.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biaslab.models.base import LoadedModel, Planted

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 400  # sentences


def record(folder: Path) -> dict[str, Any]:
    """Measure the model in `folder` in float32 and store the figures in its truth.json; returns the truth."""
    from biaslab.models.embedded.grammar import Grammar

    path = folder / "truth.json"
    truth: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    model = load(folder)
    truth["tables"] = Grammar().fingerprint()
    truth["measured"] = {"recovery": recovery(planted_scores(model)), **losses(model)}
    path.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return truth


def load(folder: Path) -> LoadedModel:
    """The model of a folder that has a truth.json, in float32 on the CPU, with its planted scale."""
    from biaslab.models import loading

    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    info = replace(loading.describe_local(str(folder)), planted=Planted(float(truth["scale"])))
    return loading.load(info, device="cpu", dtype="float32")


def planted_scores(model: LoadedModel) -> pd.DataFrame:
    """The benchmark `planted` asked of the model: columns item, cluster, category, truth, score."""
    import pandas as pd

    from biaslab.benchmarks.planted import Planted as Benchmark
    from biaslab.engine.core import Engine
    from biaslab.engine.requests import Decoding

    benchmark = Benchmark()
    items = benchmark.items(model.info)
    asked = [list(benchmark.requests(item)) for item in items]
    flat = [request for requests in asked for request in requests]
    responses = iter(Engine().run(model, flat, decoding=Decoding()))
    rows = []
    for item, requests in zip(items, asked, strict=True):
        score = benchmark.score(item, [next(responses) for _ in requests]).score
        rows.append((item.id, item.cluster, item.category, item.truth, score))
    return pd.DataFrame(rows, columns=["item", "cluster", "category", "truth", "score"])


def recovery(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For each category Pearson r and slope of score on truth, and the mean |score - truth| (log-odds)."""
    found = {}
    for category, part in scores.groupby("category"):
        truth, score = part["truth"].to_numpy(), part["score"].to_numpy()
        figures = {"n": len(part), "mae": float(np.abs(score - truth).mean())}
        if np.ptp(truth) > 0:  # a control has one truth, 0
            figures["r"] = float(np.corrcoef(truth, score)[0, 1])
            figures["slope"] = float(np.polyfit(truth, score, 1)[0])
        found[str(category)] = {name: round(value, 4) for name, value in figures.items()}
    return found


def losses(model: LoadedModel) -> dict[str, float]:
    """Mean nats per token on held-out sentences, and the entropy of those sentences in the grammar."""
    from biaslab.engine.core import Engine
    from biaslab.engine.requests import Decoding, LogLikelihood, LogLikelihoodResponse, Prompt
    from biaslab.models.embedded.grammar import Grammar, held_out_rng

    assert model.info.planted is not None
    sentences, logps = Grammar(model.info.planted.scale).sample(HELD_OUT, held_out_rng(0))
    requests = [LogLikelihood(Prompt(user="", bare=True), sentence) for sentence in sentences]
    responses = Engine().run(model, requests, decoding=Decoding())
    scored = [r for r in responses if isinstance(r, LogLikelihoodResponse)]
    n_tokens = sum(len(r.token_logprobs) for r in scored)
    loss = -sum(r.logprob_sum for r in scored) / n_tokens
    return {"nats_per_token": round(loss, 4), "entropy_per_token": round(-float(logps.sum()) / n_tokens, 4)}


def main() -> None:
    """Measure the named folders, or the models that ship."""
    from biaslab.models import embedded

    parser = argparse.ArgumentParser(prog="python -m biaslab.models.embedded.measure", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="default: the models that ship")
    arguments = parser.parse_args()
    for folder in arguments.folders or [embedded.folder(name) for name in embedded.names()]:
        print(json.dumps(record(folder)))


if __name__ == "__main__":
    main()
