"""CrowS-Pairs against lm-evaluation-harness (pip install lm_eval==0.4.13 -c constraints.txt), same model."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from biaslab.benchmarks.crows_pairs import CrowsPairs
from biaslab.engine.core import Engine
from biaslab.engine.requests import Decoding
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_local, load

pytestmark = [pytest.mark.extras, pytest.mark.data]


@pytest.fixture(scope="module")
def model(data_dir: Path) -> LoadedModel:
    return load(describe_local(str(data_dir / "models/tinystories-656k")), device="cpu", dtype="float32")


def test_log_likelihoods_and_metrics_are_lm_evals(model: LoadedModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lm_eval = pytest.importorskip("lm_eval")
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks.crows_pairs import utils

        assert lm_eval.__version__ == "0.4.13"
        theirs = HFLM(
            pretrained=model.module, tokenizer=model.tokenizer, batch_size=16, device="cpu", add_bos_token=True
        )
        benchmark = CrowsPairs()
        items = benchmark.items(model.info)[::10]
        sentences = [item.data[side] for item in items for side in ("sent_more", "sent_less")]
        asked = [Instance("loglikelihood", {}, ("", text), k) for k, text in enumerate(sentences)]
        found = [value for value, _ in theirs.loglikelihood(asked, disable_tqdm=True)]
    requests = [request for item in items for request in benchmark.requests(item)]
    responses = Engine().run(model, requests, decoding=Decoding())
    np.testing.assert_allclose([r.logprob_sum for r in responses], found, atol=1e-4)  # type: ignore[union-attr]

    records = [benchmark.score(item, responses[2 * i : 2 * i + 2]) for i, item in enumerate(items)]
    frame = pd.DataFrame(
        {"cluster": [i.cluster for i in items], "category": [i.category for i in items],
         "score": [r.score for r in records], "outcome": [r.outcome for r in records],
         "detail": [dict(r.detail) for r in records]}
    )  # fmt: skip
    metrics = benchmark.metrics(frame)
    pairs = [utils.process_results({}, [(a, False), (b, False)]) for a, b in zip(found[::2], found[1::2], strict=True)]
    prefers = 100 * np.mean([pair["pct_stereotype"] for pair in pairs])
    assert metrics["pct_prefers_more_sum"].value == pytest.approx(prefers)
    size = np.mean([pair["likelihood_diff"] for pair in pairs])
    assert metrics["mean_abs_difference_sum"].value == pytest.approx(size, abs=1e-4)


def test_the_score_is_minus_the_difference_of_transformers_losses(model: LoadedModel) -> None:
    """The paper's own computation: log p(s) = -loss with the sentence as its own labels."""
    benchmark = CrowsPairs()
    items = benchmark.items(model.info)[::100]
    requests = [request for item in items for request in benchmark.requests(item)]
    responses = Engine().run(model, requests, decoding=Decoding())
    for i, item in enumerate(items):
        losses = []
        for side in ("sent_more", "sent_less"):
            ids = model.tokenizer(item.data[side], return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                losses.append(float(model.module(ids, labels=ids).loss))
        record = benchmark.score(item, responses[2 * i : 2 * i + 2])
        assert record.score == pytest.approx(losses[1] - losses[0], abs=1e-4)
