"""What reading scores through the quantized KV cache costs: `make perf` prints the table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
import torch

from biaslab.accel.kv import Kv
from biaslab.engine.core import Engine
from biaslab.engine.requests import Decoding, LogLikelihood, LogLikelihoodResponse, Prompt, Request
from biaslab.models.base import BY_TOKEN, LoadedModel
from biaslab.models.embedded.grammar import held_out_texts
from tests.accel import tiny

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1200)]

SHAPE = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6}


def seconds(run: Callable[[], object], turns: int = 3) -> float:
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def test_scores_through_the_cache_cost_at_most_three_plain_scores(capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    plain = tiny.make("llama", **SHAPE)
    quantized = Kv(bits=4).apply(plain, "kv4")
    # The same numbers the slow way, one token after another, as a residual window would need it.
    by_token = Kv(bits=4, residual=1).apply(plain, "kv4")
    assert by_token.cache_use == BY_TOKEN
    texts = held_out_texts(48, 0, 1.0)
    requests: list[Request] = [LogLikelihood(Prompt(user="", bare=True), text[:200]) for text in texts]

    def score(model: LoadedModel) -> list[float]:
        answers = Engine().run(model, requests, decoding=Decoding())
        return [a.logprob_sum for a in answers if isinstance(a, LogLikelihoodResponse)]

    before, after = score(plain), score(quantized)
    assert max(abs(x - y) for x, y in zip(before, after, strict=True)) > 0.01, "it acts"
    base, ours, slow = seconds(lambda: score(plain)), seconds(lambda: score(quantized)), seconds(
        lambda: score(by_token), turns=1
    )  # fmt: skip
    with capsys.disabled():
        print(f"\n{len(requests)} texts of 200 tokens, 6 layers of 384, one thread, load {os.getloadavg()[0]:.1f}")
        print(f"  plain forward             {base:8.2f} s")
        print(f"  through the kv4 cache     {ours:8.2f} s   {ours / base:5.2f} times the plain forward")
        print(f"  token by token            {slow:8.2f} s   {slow / base:5.2f} times the plain forward")
    assert ours <= 3 * base
    assert slow > ours
