"""What an arm costs and how well it still predicts text: measured on fixed work, once for all its cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files

from biaslab.engine.core import Engine
from biaslab.engine.requests import Decoding, LogLikelihood, LogLikelihoodResponse, Prompt
from biaslab.models.base import LoadedModel, ModelInfo

N_GRAMMAR_TEXTS = 64
GRAMMAR_SEED = 0


def measure(model: LoadedModel, engine: Engine) -> dict[str, float]:
    """weight_bytes, bits_per_weight, sparsity (share of zero weights) and perplexity of a model as it stands.

    perplexity : exp of the mean negative log p per scored token of `held_out_texts`, each text scored on
        its own; NaN if no text fits the context window. Comparable between arms of one model only:
        tokenizers differ.
    """
    from biaslab.accel.facts import bits_per_weight, sparsity, weight_bytes

    return {
        "weight_bytes": float(weight_bytes(model.module)),
        "bits_per_weight": bits_per_weight(model.module),
        "sparsity": sparsity(model.module),
        "perplexity": perplexity(model, engine, held_out_texts(model.info)),
    }


def perplexity(model: LoadedModel, engine: Engine, texts: Sequence[str]) -> float:
    """Perplexity per token over `texts`; see `measure`."""
    requests = [LogLikelihood(Prompt(user="", bare=True), text) for text in texts]
    answers = engine.run(model, requests, decoding=Decoding(), seeds=None, chat=False, system="", on_progress=None)
    logprobs = [
        logprob
        for answer in answers
        if isinstance(answer, LogLikelihoodResponse) and not answer.too_long
        for logprob in answer.token_logprobs
    ]
    return math.exp(-math.fsum(logprobs) / len(logprobs)) if logprobs else math.nan


def held_out_texts(info: ModelInfo) -> list[str]:
    """Text a model has not been calibrated on: of its own grammar if it has one, else plain English."""
    if info.planted is not None:
        from biaslab.models.embedded.grammar import held_out_texts as grammar_texts

        return grammar_texts(N_GRAMMAR_TEXTS, GRAMMAR_SEED, info.planted.scale)
    return files("biaslab").joinpath("held_out.txt").read_text(encoding="utf-8").splitlines()
