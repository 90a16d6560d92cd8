"""The accelerators on weights trained on text, on the embedded models, and against llm-compressor."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.accel.active import active_check, reference_logits
from biaslab.accel.base import Accelerator
from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.hqq import Hqq
from biaslab.accel.layers import dense_linears
from biaslab.accel.magnitude import Magnitude
from biaslab.accel.stack import apply_stack
from biaslab.accel.wanda import Wanda
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, describe_local, load

SENTENCE = (
    "Once upon a time there was a little girl named Lily. She loved to play outside in the park with her "
    "friends. One day she found a big red ball."
)
CHECKPOINTS = ["tinystories-656k", "stories260K-hf"]


def fresh(model: LoadedModel) -> LoadedModel:
    return dataclasses.replace(model, module=copy.deepcopy(model.module), facts=[])


def checkpoint(data_dir: Path, name: str) -> LoadedModel:
    return load(describe_local(str(data_dir / "models" / name), ""), device="cpu", dtype="float32")


def token_logprobs(model: LoadedModel) -> torch.Tensor:
    ids = torch.tensor([model.tokenizer(SENTENCE)["input_ids"]])
    with torch.no_grad():
        logprobs = model.module(input_ids=ids).logits[0, :-1].log_softmax(-1)
    return logprobs.gather(1, ids[0, 1:, None])[:, 0]


def mean_change(base: LoadedModel, *accels: Accelerator) -> tuple[float, LoadedModel]:
    model = apply_stack(fresh(base), {f"step{i}": accel for i, accel in enumerate(accels)})
    return float((token_logprobs(model) - token_logprobs(base)).abs().mean()), model


@pytest.mark.data
def test_tinystories_moves_as_measured_elsewhere(data_dir: Path) -> None:
    # Mean |change of a token's log p|: the same libraries' figures on another sentence and calibration
    # were .014, .196, .422, 2.40 (hqq), .83 (Wanda 50 %), 1.76 (Wanda 2:4), 1.08 (magnitude).
    base = checkpoint(data_dir, "tinystories-656k")
    for accel, expected in [
        (Hqq(bits=8), 0.014),
        (Hqq(bits=4), 0.196),
        (Hqq(bits=3), 0.422),
        (Hqq(bits=2), 2.40),
        (Wanda(), 0.83),
        (Wanda(pattern="2:4"), 1.76),
        (Magnitude(), 1.08),
    ]:
        change, _ = mean_change(base, accel)
        assert expected / 1.5 < change < expected * 1.5, accel


@pytest.mark.data
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_half_is_exactly_half_in_every_layer(data_dir: Path, name: str) -> None:
    base = checkpoint(data_dir, name)
    for accel in (Wanda(), Wanda(pattern="2:4"), Magnitude(), Magnitude(pattern="2:4")):
        _, model = mean_change(base, accel)
        if accel.pattern == "row":
            expected = {n: (m.in_features // 2) / m.in_features for n, m in dense_linears(model.module).items()}
        else:
            expected = dict.fromkeys(dense_linears(model.module), 0.5)
        assert {layer["name"]: layer["sparsity"] for layer in model.facts[0].values["layers"]} == expected


@pytest.mark.data
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_wanda_beats_magnitude_where_it_was_shown_to(data_dir: Path, name: str) -> None:
    # In what a layer gives, not in its weights: Wanda's own aim. On the calibration text's own kind of input.
    base = checkpoint(data_dir, name)
    ids = calibration_ids(base, Calibration(seed=1)).ids
    first = next(iter(dense_linears(base.module)))
    captured: list[torch.Tensor] = []
    base.module.get_submodule(first).register_forward_pre_hook(lambda _m, args: captured.append(args[0]))
    with torch.no_grad():
        base.module(input_ids=ids)
    inputs = captured[0].flatten(0, 1)
    weight = base.module.get_submodule(first).weight.detach()

    def output_error(accel: Accelerator) -> float:
        _, model = mean_change(base, accel)
        return float((inputs @ (model.module.get_submodule(first).weight.detach() - weight).T).norm())

    assert output_error(Wanda()) < output_error(Magnitude(pattern="row"))


@pytest.mark.parametrize("pattern", ["row", "2:4"])
@pytest.mark.parametrize("pruner", [Wanda, Magnitude])
def test_the_exact_zero_control_is_left_bit_identical(pruner: Any, pattern: str) -> None:
    base = load(describe_embedded("tiny_sparse"), device="cpu", dtype="float32")
    _, model = mean_change(base, pruner(pattern=pattern))
    before = base.module.state_dict()
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert active_check(reference_logits(base), reference_logits(model))["max_logit_change"] == 0.0


def test_on_the_exact_zero_control_a_stack_is_its_quantizer_alone() -> None:
    base = load(describe_embedded("tiny_sparse"), device="cpu", dtype="float32")
    _, stacked = mean_change(base, Wanda(), Hqq(bits=4))
    _, alone = mean_change(base, Hqq(bits=4))
    assert torch.equal(reference_logits(stacked), reference_logits(alone))
    assert active_check(reference_logits(base), reference_logits(alone))["max_logit_change"] > 0.1


def test_an_embedded_model_is_calibrated_on_its_own_language() -> None:
    model = load(describe_embedded("tiny_mistral"), device="cpu", dtype="float32")
    rows = calibration_ids(model, Calibration(samples=3)).ids
    with torch.no_grad():
        logprobs = model.module(input_ids=rows).logits[:, :-1].log_softmax(-1)
    surprise = -logprobs.gather(2, rows[:, 1:, None]).mean()
    assert surprise < 1.5  # about .93 nats on its grammar, over 5 on English


@pytest.mark.extras
@pytest.mark.data
@pytest.mark.filterwarnings("ignore")  # a foreign library's own
@pytest.mark.parametrize(("pattern", "structure"), [("row", "0:0"), ("2:4", "2:4")])
def test_wanda_masks_equal_llm_compressors(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, structure: str
) -> None:
    llmcompressor = pytest.importorskip("llmcompressor", reason="needs llmcompressor 0.14")
    pruning = pytest.importorskip("llmcompressor.modifiers.pruning")
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)  # it writes logs where it runs
    calibration = Calibration(samples=16, length=96)
    mine, theirs = checkpoint(data_dir, CHECKPOINTS[0]), checkpoint(data_dir, CHECKPOINTS[0])
    rows = calibration_ids(mine, calibration).ids.tolist()

    Wanda(pattern=pattern, calibration=calibration).apply(mine, "wanda")
    llmcompressor.oneshot(
        model=theirs.module,
        tokenizer=theirs.tokenizer,
        dataset=datasets.Dataset.from_list([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]),
        max_seq_length=calibration.length,
        num_calibration_samples=calibration.samples,
        shuffle_calibration_samples=False,
        # The plain name "lm_head" is silently not honoured, and tied embeddings would be pruned.
        recipe=[
            pruning.WandaPruningModifier(
                sparsity=0.5, mask_structure=structure, targets=["Linear"], ignore=["re:.*lm_head"]
            )
        ],
    )

    assert mine.facts[0].values["sparsity"] == 0.5
    expected = dense_linears(theirs.module)
    for name, linear in dense_linears(mine.module).items():
        assert torch.equal(linear.weight, expected[name].weight), name
