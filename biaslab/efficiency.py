"""What an arm costs and how well it still predicts text: measured on fixed work, once for all its cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from biaslab.engine.core import Engine
from biaslab.engine.requests import (
    Decoding,
    Generate,
    GenerateResponse,
    LogLikelihood,
    LogLikelihoodResponse,
    Prompt,
    Response,
)
from biaslab.models.base import LoadedModel, ModelInfo
from biaslab.throughput import EfficiencyConfig, Speed, measure_speed, peak_memory

N_GRAMMAR_TEXTS = 64
GRAMMAR_SEED = 0
N_WRITTEN = 16  # texts generated to see how much they repeat
SPEEDS = tuple(f"{what}_tokens_per_s{ending}" for ending in ("", "_batched") for what in ("prefill", "decode"))


def measure(
    model: LoadedModel, engine: Engine, config: EfficiencyConfig, *, untouched: bool, held_bytes: float = 0.0
) -> dict[str, Any]:
    """What an arm costs, as it stands: numbers by name, and under "reasons" why one is missing (NaN).

    weight_bytes, disk_bytes : of the weights in memory, and in files: the checkpoint's own for an `untouched`
        model, else as files would hold what is in memory. bits_per_weight; sparsity (share of zero weights).
    peak_memory_bytes : see `peak_memory`, less held_bytes of another model kept in memory meanwhile.
    perplexity : exp of the mean negative log p per scored token of `held_out_texts`, each text scored on
        its own; NaN if no text fits the context window. Comparable between arms of one model only:
        tokenizers differ.
    repetition : see `repetition`. prefill_ and decode_tokens_per_s : see `measure_speed`.
    """
    from biaslab.accel import facts

    texts = held_out_texts(model.info)
    speed = Speed(reasons={"decode_tokens_per_s": "left out (efficiency.speed=false)"})
    repeated = math.nan
    with peak_memory({weight.device for weight in model.module.parameters()}) as peak:
        found = perplexity(model, engine, texts)
        if config.speed:
            speed = measure_speed(model, config, texts)
            repeated = repetition(model, engine, texts, config.text_tokens)
    files = model.info.weights.file_bytes if untouched and model.info.weights else facts.disk_bytes(model.module)
    reasons = speed.reasons | ({"peak_memory_bytes": peak.reason} if peak.reason else {})
    return {
        "weight_bytes": float(facts.weight_bytes(model.module)),
        "disk_bytes": float(files),
        "bits_per_weight": facts.bits_per_weight(model.module),
        "sparsity": facts.sparsity(model.module),
        "peak_memory_bytes": peak.bytes - held_bytes,
        "perplexity": found,
        "repetition": repeated,
        **dict.fromkeys(SPEEDS, math.nan),
        **speed.values,
        "work": {**asdict(config)},
        "reasons": reasons,
    }


def repetition(model: LoadedModel, engine: Engine, texts: Sequence[str], n_tokens: int) -> float:
    """Share of the 4-grams of tokens in generated texts that occurred in the same text before, in [0, 1].

    (Welleck et al. 2020, arXiv:1908.04319, seq-rep-4.) One text after the first half of each of N_WRITTEN
    texts, sampled at temperature 1 from fixed seeds: small models repeat themselves under greedy decoding
    however good they are. NaN if no text has four tokens.
    """
    prompts = [" ".join(words[: (len(words) + 1) // 2]) for text in texts[:N_WRITTEN] if (words := text.split())]
    requests = [Generate(Prompt(user=prompt, bare=True), n_tokens) for prompt in prompts]
    answers = engine.run(model, requests, decoding=Decoding("sampled"), seeds=range(len(requests)))
    written = [model.tokenizer(answer.text, add_special_tokens=False)["input_ids"] for answer in _generated(answers)]
    grams = [[tuple(ids[i : i + 4]) for i in range(len(ids) - 3)] for ids in written]
    total = sum(map(len, grams))
    return 1 - sum(len(set(mine)) for mine in grams) / total if total else math.nan


def _generated(answers: Sequence[Response]) -> list[GenerateResponse]:
    return [answer for answer in answers if isinstance(answer, GenerateResponse)]


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
