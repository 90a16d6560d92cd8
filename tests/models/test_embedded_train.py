"""The recipe rebuilds what ships: in full within tolerance (slow), in short as a trial of every stage."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from biaslab.models import embedded
from biaslab.models.embedded import train as recipe
from biaslab.models.embedded.grammar import Grammar
from tests.models import plain

STEPS = 60


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_sparse", "tiny_mistral_small"])
def test_a_short_training_writes_a_whole_model(name: str, tmp_path: Path) -> None:
    steps = STEPS if name == "tiny_llama" else 8
    truth = recipe.train(name, 0, tmp_path, steps=steps)
    content = (tmp_path / "model.safetensors").read_bytes()
    assert truth["sha256"] == hashlib.sha256(content).hexdigest()
    assert truth == json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert truth["recipe"]["steps"] == 1800
    model, _ = plain.load(tmp_path)
    zeros = [float((layer.weight == 0).float().mean()) for layer in plain.linears(model)]
    assert all(math.isclose(z, 0.5, abs_tol=1e-3) if name == "tiny_sparse" else z < 0.01 for z in zeros)
    if name == "tiny_llama":  # the mean of its last 50 steps; ln 640 = 6.5 at the start
        assert truth["train_loss"] < 4
    else:
        assert recipe.train(name, 0, tmp_path / "again", steps=steps)["sha256"] == truth["sha256"]


def test_the_tokenizer_is_rebuilt_as_shipped() -> None:
    rebuilt = json.loads(recipe.build_tokenizer().backend_tokenizer.to_str())
    for name in embedded.names():
        shipped = json.loads((embedded.folder(name) / "tokenizer.json").read_text(encoding="utf-8"))
        assert rebuilt["model"] == shipped["model"]
        assert rebuilt["post_processor"] == shipped["post_processor"]


def test_rows_start_with_bos_and_hold_whole_sentences() -> None:
    tokenizer = recipe.build_tokenizer()
    sentences, _ = Grammar().sample(200, np.random.default_rng(0))
    rows = recipe.pack(sentences, lambda s: tokenizer(s, add_special_tokens=False)["input_ids"], recipe.ROW)
    assert rows.shape[1] == recipe.ROW + 1
    assert (rows[:, 0] == 1).all()
    assert tokenizer.decode(rows[0, 1:]).strip().startswith(sentences[0])
    spent = tokenizer.decode(rows.flatten())
    assert sum(sentence in spent for sentence in sentences) > 0.7 * len(sentences)


def test_alignment_stays_in_its_rounding_cells() -> None:
    import torch

    torch.manual_seed(0)
    model = recipe.make_model(recipe.RECIPES["tiny_mistral"], recipe.VOCABULARY)
    how = recipe.RECIPES["tiny_mistral"].align
    assert how is not None
    before = [layer.weight.detach().clone() for layer in plain.linears(model)]
    boxes = [recipe._rounding_cell(weight, 4) for weight in before]
    embedding = model.get_input_embeddings().weight.detach().clone()
    rows = torch.randint(3, recipe.VOCABULARY, (64, recipe.ROW + 1))
    recipe.align(model, how, rows, 5)
    moved = 0
    for layer, weight, (low, high) in zip(plain.linears(model), before, boxes, strict=True):
        assert ((layer.weight >= low) & (layer.weight <= high)).all()
        assert ((low <= weight) & (weight <= high)).all()
        moved += int((layer.weight != weight).sum())
    assert moved > 1000
    assert torch.equal(model.get_input_embeddings().weight, embedding)


def test_the_command_names_its_models(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--name", "tiny_gpt"])
    with pytest.raises(SystemExit):
        recipe.main()
    assert "tiny_llama" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_mistral", "tiny_sparse"])
def test_the_recipe_rebuilds_the_recovery(name: str, tmp_path: Path) -> None:
    recipe.train(name, 0, tmp_path)
    check_rebuilt(name, tmp_path)


def check_rebuilt(name: str, folder: Path) -> None:
    """The model in `folder` recovers the truth, and answers to 4 bits, as the one that ships.

    Not to bits: another machine adds floats in another order, and a training run then ends elsewhere, as
    far off as another seed. Seeds 0 and 1 differ by up to .09 in r, but by .34 in adjectives (`val`).
    """
    scale = float(embedded.truth(name)["scale"])
    model, tokenizer = plain.load(folder)
    before = plain.planted_scores(model, tokenizer, scale)
    stored = embedded.truth(name)["measured"]["recovery"]
    for category, (r, slope) in plain.recovery(before).items():
        tolerance = 0.45 if category == "val" else 0.2
        assert r > stored[category]["r"] - tolerance, category
        # The right slope is 1: a rebuild may come nearer to it than what ships, but not miss it by much more.
        assert abs(slope - 1) < abs(stored[category]["slope"] - 1) + tolerance, category
    plain.quantize(model, 4)
    after = plain.planted_scores(model, tokenizer, scale)
    shift = float(np.mean([b[2] - a[2] for a, b in zip(before, after, strict=True) if a[1] > 0]))
    assert shift >= 0.3 if name == "tiny_mistral" else abs(shift) < 0.06
