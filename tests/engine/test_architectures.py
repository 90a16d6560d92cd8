"""Architectures whose attention, head or layers are not a plain transformer's: none is packed into wrong numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biaslab.engine.core import Engine
from biaslab.engine.onednn import LEAST_TOKENS, quick_products
from biaslab.engine.requests import Decoding, Generate, GenerateResponse, LogLikelihood, Prompt
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_local, load
from tests.engine import plain
from tests.models.make import TEXT, make_tokenizer

SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.3,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 8, "attn_logit_softcapping": 5.0, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 6},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {
        "num_key_value_heads": 1, "head_dim": 8, "lru_width": 32, "num_hidden_layers": 3,
        "attention_window_size": 8, "block_types": ["recurrent", "recurrent", "attention"],
    },
    "falcon": {"alibi": True},
    "bloom": {"n_layer": 2, "n_head": 4},
    "granite": {"logits_scaling": 1.02},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mamba": {"state_size": 4},
}  # fmt: skip
#: What only the trial of a few rows used to tell, and in 16 bits, or beside one long row, did not.
NOT_PACKED = sorted(set(OWN) - {"mixtral"})


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folders: dict[str, Path] = {}

    def made(kind: str, dtype: str = "float32") -> LoadedModel:
        from transformers import AutoConfig, AutoModelForCausalLM

        if kind not in folders:
            tokenizer, folder = make_tokenizer("llama"), tmp_path_factory.mktemp(kind)
            shape = {name: value for name, value in SHAPE.items() if kind != "gpt_neo" or not name.startswith("num_")}
            options = shape | {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options | OWN[kind])).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            folders[kind] = folder
        return load(describe_local(str(folders[kind])), device="cpu", dtype=dtype)

    return made


def sentences(*lengths: int) -> list[LogLikelihood]:
    return [LogLikelihood(Prompt("", bare=True), text[:n]) for text in TEXT for n in lengths]


def scored(model: LoadedModel, requests: list[LogLikelihood], **engine: Any) -> list[np.ndarray]:
    answers = Engine(**engine).run(model, requests, decoding=Decoding())
    return [np.array(answer.token_logprobs) for answer in answers]  # type: ignore[union-attr]


def wanted(model: LoadedModel, requests: list[LogLikelihood]) -> list[np.ndarray]:
    return [plain.likelihood(model, "", request.continuation) for request in requests]


@pytest.mark.parametrize("kind", sorted(OWN))
def test_scores_are_those_of_one_sentence_at_a_time(make: Any, kind: str) -> None:
    model, requests = make(kind), sentences(15, 30, 45)
    for found, want in zip(scored(model, requests), wanted(model, requests), strict=True):
        np.testing.assert_allclose(found, want, atol=1e-4, rtol=0)
    assert model.asked == ("packed" if kind == "mixtral" else "padded")


@pytest.mark.parametrize("kind", ["gpt_neo", "lfm2", "recurrent_gemma", "falcon"])
def test_one_row_that_fills_a_batch_alone_does_not_hide_what_short_ones_do_to_one_another(make: Any, kind: str) -> None:
    model = make(kind)
    requests = [*sentences(15, 30), LogLikelihood(Prompt("", bare=True), " ".join(TEXT[:2]))]
    found = scored(model, requests, batch_tokens=48)
    for one, want in zip(found, wanted(model, requests), strict=True):
        np.testing.assert_allclose(one, want, atol=1e-4, rtol=0)
    assert model.asked == "padded"


@pytest.mark.parametrize("kind", NOT_PACKED)
def test_in_16_bits_where_rounding_hides_it_none_is_packed_either(make: Any, kind: str) -> None:
    model = make(kind, "bfloat16")
    scored(model, sentences(15, 30))
    assert model.asked == "padded"


def test_weights_that_a_mixer_reads_itself_stay_where_they_are(make: Any) -> None:
    model = make("mamba")
    ids = torch.tensor([model.tokenizer(TEXT[0])["input_ids"]])
    with torch.inference_mode(), quick_products(model, LEAST_TOKENS):
        assert "forward" in vars(model.module.lm_head) or model.module.config.tie_word_embeddings
        assert torch.isfinite(model.module(ids).logits).all()


def test_texts_of_a_cache_that_lets_no_row_go_are_those_of_one_prompt_at_a_time(make: Any) -> None:
    model = make("lfm2")
    prompts = [Generate(Prompt(text[:n], bare=True), 12) for text in TEXT for n in (15, 33)]
    alone = Engine(way="alone").run(model, prompts, decoding=Decoding())
    ends = {text.text[-1] for text in alone if isinstance(text, GenerateResponse) and text.text}
    stopped = [Generate(p.prompt, 12, stop=tuple(sorted(ends))) for p in prompts]  # so that rows end early
    one = Engine(way="alone").run(model, stopped, decoding=Decoding())
    together = Engine(way="padded").run(model, stopped, decoding=Decoding())
    assert together == one
    assert len({text.new_tokens for text in together if isinstance(text, GenerateResponse)}) > 1


@pytest.mark.parametrize("kind", ["mamba", "recurrent_gemma"])
def test_an_architecture_without_a_cache_to_go_on_from_is_told_in_words(make: Any, kind: str) -> None:
    with pytest.raises(CellFailed, match="gives no key-value cache back"):
        Engine().run(make(kind), [Generate(Prompt(TEXT[0]), 5)], decoding=Decoding())
