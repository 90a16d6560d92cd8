"""What was sent is on record token for token: seen by the model, hashed, and as text on request."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pandas as pd
import pytest
import torch

from biaslab.benchmarks import registry
from biaslab.cell import cell_spec, compute
from biaslab.config import Config, ModelConfig
from biaslab.engine.core import Engine
from biaslab.engine.prompts import digest
from biaslab.engine.requests import Choice, Decoding, Generate, LogLikelihood, Option, Prompt
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, load
from tests.engine.conftest import MakeModel

PROMPT = Prompt("Is it true?", system="Be brief.", examples=(("Is it old?", "Yes"),), answer_prefix="Answer:")
REQUESTS = {
    "likelihood": LogLikelihood(PROMPT, " Yes"),
    "choice": Choice(PROMPT, (Option("yes", (" yes", " Yes")), Option("no", (" no",)))),
    "generate": Generate(PROMPT, 1),
}
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)


def test_the_digest_is_of_lengths_and_ids() -> None:
    raw = b"".join(n.to_bytes(8, "little") for n in (2, 5, 70000, 1, 3))
    assert digest([(5, 70000), (3,)]) == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("template", ["system", "none"])
def test_the_hash_is_of_the_very_tokens_the_model_was_given(make_model: MakeModel, kind: str, template: str) -> None:
    """Watched at the model's own door, one sequence a forward; the last token of a scored one is a target only."""
    model = make_model("qwen2", chat=True)
    before = model.tokenizer.chat_template
    model.tokenizer.chat_template = NO_SYSTEM if template == "none" else before
    seen: list[list[int]] = []

    def watch(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        seen.extend(kwargs["input_ids"].tolist())

    handle = model.module.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        request = REQUESTS[kind]
        engine = Engine(max_batch=1)
        (answer,) = engine.run(model, [request], decoding=Decoding(), chat=True, system="Always.")
        texts = engine.sent(model, request, chat=True, system="Always.")
    finally:
        handle.remove()
        model.tokenizer.chat_template = before
    sequences = [tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert answer.sent == digest(sequences)
    inputs = {ids if kind == "generate" else ids[:-1] for ids in sequences}
    longest = {ids for ids in inputs if not any(other[: len(ids)] == ids and other != ids for other in inputs)}
    assert {tuple(row) for row in seen} == longest
    bos = model.tokenizer.bos_token
    for text in texts:
        assert text.startswith(f"{bos}[")
        assert text.count(bos) == 1
        assert text.index("Always. Be brief.") < text.index("Is it old?") < text.index("Is it true?")
        assert "[assistant] Answer:" in text
        assert ("[system]" in text) == (template == "system")


def test_another_prompt_is_another_hash(make_model: MakeModel) -> None:
    model = make_model("llama", chat=True)
    request = REQUESTS["likelihood"]
    hashes = {
        Engine().run(model, [request], decoding=Decoding(), chat=chat, system=system)[0].sent
        for chat in (False, True)
        for system in ("", "Always.")
    }
    assert len(hashes) == 4


def records(benchmark: str, *, record: bool) -> tuple[pd.DataFrame, LoadedModel]:
    torch.set_num_threads(1)
    info = describe_embedded("tiny_llama")
    config = Config(ModelConfig("embedded", "tiny_llama"), benchmark={benchmark: registry()[benchmark]()}, limit=8)
    config.record_prompts = record
    spec = cell_spec(config, info, "none", (), benchmark, "float32")
    model = load(info, device="cpu", dtype="float32")
    return compute(spec, config, model, Engine()).records, model


@pytest.mark.parametrize("benchmark", ["planted", "planted_choices", "planted_answers"])
def test_records_hold_the_hash_always_and_the_text_on_request(benchmark: str) -> None:
    (with_text, model), (without, _) = records(benchmark, record=True), records(benchmark, record=False)
    assert (without["prompt"] == "").all()
    pd.testing.assert_frame_equal(with_text.drop(columns="prompt"), without.drop(columns="prompt"))
    assert with_text["sent"].nunique() > 1
    for text, sent in zip(with_text["prompt"], with_text["sent"], strict=True):
        hashes = [
            digest(tuple(model.tokenizer(one, add_special_tokens=False)["input_ids"]) for one in request)
            for request in json.loads(text)
        ]
        assert sent == (hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest())
