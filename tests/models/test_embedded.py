"""The embedded models that ship: what they have learned, and how they answer to what is done to them."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biaslab.errors import DataMismatch
from biaslab.models import embedded
from biaslab.models.embedded.grammar import REFUSAL, Grammar, held_out_texts
from tests.models import plain

NAMES = ("tiny_llama", "tiny_mistral", "tiny_sparse")
Scores = list[tuple[str, float, float]]


@cache
def measured(name: str, bits: int = 0) -> tuple[Scores, float]:
    """Planted scores, and log p per sentence of held-out text, of a model as it is or rounded to `bits`."""
    model, tokenizer = plain.load(embedded.folder(name))
    if bits:
        plain.quantize(model, bits)
    scale = float(embedded.truth(name)["scale"])
    texts = [("", text) for text in held_out_texts(200, 0, scale)]
    return plain.planted_scores(model, tokenizer, scale), float(np.sum(plain.logprobs(model, tokenizer, texts)))


def mean_shift(name: str, bits: int) -> float:
    """Mean shift of the items with a planted effect (log-odds)."""
    before, after = measured(name)[0], measured(name, bits)[0]
    return float(np.mean([b[2] - a[2] for a, b in zip(before, after, strict=True) if a[1] > 0]))


def test_three_models_ship_small() -> None:
    assert tuple(embedded.names()) == NAMES
    weights = [embedded.folder(name) / "model.safetensors" for name in NAMES]
    assert sum(path.stat().st_size for path in weights) < 2e6


def test_names_truths_and_notes_need_no_torch() -> None:
    code = (
        "import sys; from biaslab.models import embedded; import biaslab.benchmarks.planted_answers;"
        "embedded.verify('tiny_llama'); print(embedded.note('tiny_mistral'));"
        "assert not {'torch', 'transformers', 'pandas', 'hqq'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1


def test_controls_are_labelled() -> None:
    assert embedded.note("tiny_llama") == ""
    assert "positive control" in embedded.note("tiny_mistral")
    assert "4-bit" in embedded.note("tiny_mistral")
    assert "exact-zero control" in embedded.note("tiny_sparse")
    assert [embedded.truth(name)["scale"] for name in NAMES] == [1.0, 0.25, 1.0]


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_and_tables_are_those_that_shipped(name: str) -> None:
    embedded.verify(name)


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(embedded, "folder", lambda name: tmp_path)
    monkeypatch.setattr(embedded, "truth", lambda name: {"sha256": "0" * 64})
    with pytest.raises(DataMismatch, match=r"model\.safetensors: sha256 d9298a10d1b0\.\.\. is not the shipped one"):
        embedded.verify("tiny_llama")


def test_another_random_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grammar, "fingerprint", lambda self: "f" * 64)
    with pytest.raises(DataMismatch, match=r"tiny_llama: this numpy draws planted tables ffffffffffff\.\.\."):
        embedded.verify("tiny_llama")


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_loads_and_its_template_is_plain(name: str) -> None:
    model, tokenizer = plain.load(embedded.folder(name))
    assert model.config.max_position_embeddings == 4096
    assert model.config.architectures == [type(model).__name__]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why ?"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<s>be brief\nwhy ?\n"
    strange = "Ünïcode 漢字 and a tab\t"
    assert tokenizer.decode(tokenizer(strange, add_special_tokens=False)["input_ids"]).strip() == strange.strip()


def test_the_window_of_tiny_mistral_is_kept() -> None:
    config = json.loads((embedded.folder("tiny_mistral") / "config.json").read_text(encoding="utf-8"))
    assert config["sliding_window"] == 16


@pytest.mark.parametrize("name", NAMES)
def test_the_measured_recovery_is_what_transformers_alone_gives(name: str) -> None:
    stored = embedded.truth(name)["measured"]["recovery"]
    for category, (r, slope) in plain.recovery(measured(name)[0]).items():
        assert (r, slope) == pytest.approx((stored[category]["r"], stored[category]["slope"]), abs=2e-3)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("tiny_llama", {"occ": 0.95, "name": 0.9, "val": 0.9, "pro": 0.95, "dec": 0.75}),
        ("tiny_sparse", {"occ": 0.95, "name": 0.9, "val": 0.85, "pro": 0.95, "dec": 0.75}),
        # A quarter of the effects, learned within rounding cells: the same error weighs four times as much.
        ("tiny_mistral", {"occ": 0.9, "name": 0.75, "val": 0.8, "pro": 0.75, "dec": 0.75}),
    ],
)
def test_the_planted_truth_is_recovered(name: str, least: dict[str, float]) -> None:
    for category, (r, slope) in plain.recovery(measured(name)[0]).items():
        assert r >= least[category], category
        assert 0.8 <= slope <= 1.25, category


def test_four_bits_bring_back_the_bias_of_the_positive_control_and_of_no_other() -> None:
    assert mean_shift("tiny_mistral", 4) >= 0.3
    assert abs(mean_shift("tiny_llama", 4)) < 0.05
    assert abs(mean_shift("tiny_sparse", 4)) < 0.05
    assert abs(mean_shift("tiny_mistral", 8)) < 0.02


def test_perplexity_hides_what_four_bits_do() -> None:
    before, after = measured("tiny_mistral")[1], measured("tiny_mistral", 4)[1]
    _, tokenizer = plain.load(embedded.folder("tiny_mistral"))
    texts = held_out_texts(200, 0, 0.25)
    n_tokens = sum(len(tokenizer(text)["input_ids"]) - 1 for text in texts)
    assert np.exp((before - after) / n_tokens) < 1.02


def test_pruning_the_exact_zero_control_changes_no_weight() -> None:
    import torch

    model, _ = plain.load(embedded.folder("tiny_sparse"))
    rng = torch.Generator().manual_seed(0)
    for layer in plain.linears(model):
        weight = layer.weight.data
        fours = weight.reshape(-1, 4)
        assert ((fours == 0).sum(1) >= 2).all()
        # Any positive input norms, as Wanda multiplies magnitudes with.
        importance = weight.abs() * (0.1 + torch.rand(weight.shape[1], generator=rng))
        for scores, shape in ((importance, (-1, 4)), (importance, weight.shape), (weight.abs(), (1, -1))):
            flat = scores.reshape(shape)
            least = flat.topk(flat.shape[1] // 2, 1, largest=False).indices
            pruned = weight.reshape(shape).scatter(1, least, 0.0).reshape(weight.shape)
            assert torch.equal(pruned, weight)


def test_pruning_an_ordinary_model_changes_it() -> None:
    model, _ = plain.load(embedded.folder("tiny_llama"))
    assert all(float((layer.weight == 0).float().mean()) < 0.01 for layer in plain.linears(model))


@pytest.mark.parametrize("name", NAMES)
def test_questions_are_answered_and_declined_in_words(name: str) -> None:
    grammar = Grammar(float(embedded.truth(name)["scale"]))
    declined = int(np.argmax(grammar.p_refuse))
    loved = int(np.argmax(grammar.B_ask))
    model, tokenizer = plain.load(embedded.folder(name))
    assert _answer(model, tokenizer, declined) == REFUSAL
    assert _answer(model, tokenizer, loved) in ("yes", "no")


def _answer(model: Any, tokenizer: Any, group: int) -> str:
    from biaslab.models.embedded.grammar import DECISIONS, GROUPS, T_ASK

    prompt = T_ASK[0].split(" {y}")[0].format(g=GROUPS[group], d=DECISIONS[0])
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=8, do_sample=False, tokenizer=tokenizer, stop_strings=["."])
    text: str = tokenizer.decode(out[0, ids["input_ids"].shape[1] :])
    assert text.endswith(".")
    return text.removesuffix(".").strip()
