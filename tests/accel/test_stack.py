from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biaslab.accel.active import reference_logits, stack_check
from biaslab.accel.awq import Awq
from biaslab.accel.base import Accelerator
from biaslab.accel.bnb4 import Bnb4
from biaslab.accel.bnb8 import Bnb8
from biaslab.accel.calibration import Calibration
from biaslab.accel.gptq import Gptq
from biaslab.accel.hqq import Hqq
from biaslab.accel.kv import Kv
from biaslab.accel.magnitude import Magnitude
from biaslab.accel.none import NoAccelerator
from biaslab.accel.placebo_batch import PlaceboBatch
from biaslab.accel.placebo_dtype import PlaceboDtype
from biaslab.accel.placebo_rerun import PlaceboRerun
from biaslab.accel.prequantized import Prequantized
from biaslab.accel.stack import apply_stack, check_stack, label
from biaslab.accel.wanda import Wanda
from biaslab.config import LABEL
from biaslab.job import step_checks
from biaslab.labels import KEPT
from biaslab.libraries import missing
from biaslab.models.base import Fact, LoadedModel
from tests.accel import tiny
from tests.accel.test_contract import from_yaml, quick

DEFAULTS: dict[str, Accelerator] = {
    "none": NoAccelerator(),
    "hqq4": Hqq(bits=4),
    "hqq8": Hqq(bits=8),
    "wanda50": Wanda(),
    "magnitude50": Magnitude(),
    "placebo_batch": PlaceboBatch(),
    "placebo_rerun": PlaceboRerun(),
    "kv4": Kv(bits=4),
}
SMALL = Calibration(samples=4, length=16)


@pytest.mark.parametrize(
    "names", [["none"], ["hqq4"], ["placebo_batch"], ["wanda50", "hqq4"], ["wanda50", "magnitude50"]]
)
def test_sensible_stacks(names: list[str]) -> None:
    assert check_stack({name: DEFAULTS[name] for name in names}) is None


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            ["hqq4", "wanda50"],
            "wanda50 prunes dense weights, and hqq4 before it leaves none; put wanda50 first",
        ),
        (["hqq4", "hqq8"], "hqq4 and hqq8 both quantize the weights; choose one"),
        (["kv4", "hqq4"], "hqq4 changes weights, and kv4 before it only the cache; put hqq4 first"),
        (["kv4", "wanda50"], "wanda50 changes weights, and kv4 before it only the cache; put wanda50 first"),
        (["none", "hqq4"], "none is a baseline and stands alone; leave it out of the stack"),
        (["hqq4", "none"], "none is a baseline and stands alone; leave it out of the stack"),
        (["hqq4", "placebo_rerun"], "placebo_rerun is a placebo and stands alone; leave it out of the stack"),
    ],
)
def test_senseless_stacks_get_a_reason(names: list[str], reason: str) -> None:
    assert check_stack({name: DEFAULTS[name] for name in names}) == reason


def test_a_stack_is_its_steps_in_order() -> None:
    stack = {"wanda50": Wanda(calibration=SMALL), "hqq4": Hqq(bits=4)}
    stacked, by_hand = tiny.make("llama"), tiny.make("llama")
    stacked = apply_stack(stacked, stack)
    by_hand = Hqq(bits=4).apply(Wanda(calibration=SMALL).apply(by_hand, "a"), "b")
    assert [fact.step for fact in stacked.facts] == ["wanda50", "hqq4"]
    assert torch.equal(reference_logits(stacked), reference_logits(by_hand))


def test_a_quantizer_alone_and_on_a_pruned_copy_differ() -> None:
    model = tiny.make("llama")
    other = tiny.make("llama")
    alone = reference_logits(apply_stack(model, {"hqq4": Hqq(bits=4)}))
    both = reference_logits(apply_stack(other, {"magnitude50": Magnitude(), "hqq4": Hqq(bits=4)}))
    assert (alone - both).abs().max() > 0.01


@pytest.mark.parametrize(
    ("accels", "expected"),
    [
        ({}, "none"),
        ({"none": NoAccelerator()}, "none"),
        ({"hqq4": Hqq(bits=4)}, "hqq4"),
        ({"wanda50": Wanda(), "hqq4": Hqq(bits=4)}, "wanda50+hqq4"),
        ({"hqq4": Hqq(bits=4, group_size=32)}, "hqq4(group_size=32)"),
        ({"hqq4": Hqq(bits=3, group_size=32), "x": Wanda()}, "hqq4(bits=3,group_size=32)+x"),
        ({"hqq8": Hqq(bits=8, skip=["*.down_proj", "*.0.*"])}, "hqq8(skip=.down_proj-.0.)"),
        ({"wanda50": Wanda(pattern="2:4")}, "wanda50(pattern=2-4)"),
        ({"wanda50": Wanda(calibration=Calibration(seed=3))}, "wanda50"),
        (
            {"wanda50": Wanda(calibration=Calibration(source="/a b/c d.txt"))},
            "wanda50(calibration.source=c-d.txt)",
        ),
        ({"wanda50": Wanda(calibration=Calibration(samples=64))}, "wanda50(calibration.samples=64)"),
        ({"placebo_batch": PlaceboBatch(batch_tokens=100)}, "placebo_batch(batch_tokens=100)"),
    ],
)
def test_labels(accels: dict[str, Accelerator], expected: str) -> None:
    before = copy.deepcopy(accels)
    assert label(accels, DEFAULTS) == expected
    assert LABEL.fullmatch(expected)
    assert accels == before


@given(st.text(max_size=30))
@settings(deadline=None, max_examples=50)
def test_any_text_becomes_a_folders_name(text: str) -> None:
    accels = {"wanda50": Wanda(calibration=Calibration(source=text))}
    got = label(accels, DEFAULTS)
    assert text == "embedded" or got.startswith("wanda50(calibration.source=")
    assert LABEL.fullmatch(got)
    assert set(KEPT.findall(got.removeprefix("wanda50(").removesuffix(")"))) <= {"=", "-"}


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (Wanda(), Prequantized(path="x"), "b brings weights of its own; put it first"),
        (Bnb8(), Gptq(), "a and b both quantize the weights; choose one"),
        (Awq(), Magnitude(), "b prunes dense weights, and a before it leaves none; put b first"),
        (Kv(bits=4), Kv(bits=8), "a and b both quantize the KV cache; choose one"),
        (PlaceboDtype(), Bnb4(), "a is a placebo and stands alone; leave it out of the stack"),
    ],
)
def test_senseless_stacks_of_other_libraries_get_a_reason(first: Accelerator, second: Accelerator, reason: str) -> None:
    assert check_stack({"a": first, "b": second}) == reason


@dataclass
class Still(Accelerator):
    """Changes nothing and says that it did something."""

    family: ClassVar[str] = "still"
    kind: ClassVar[str] = "pruner"
    summary: ClassVar[str] = "changes nothing"

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply. It asks for another batch as well, which only rounds otherwise."""
        model.facts.append(Fact(name, "pruned", {}))
        return replace(model, max_batch=3)


def moved(model: LoadedModel) -> dict[str, float]:
    return {fact.step: fact.values["active"]["max_logit_change"] for fact in model.facts}


def test_each_step_of_a_stack_says_what_it_moved() -> None:
    found = moved(apply_stack(tiny.make("llama"), {"still": Still(), "hqq4": Hqq(bits=4), "kv4": Kv(bits=4)}))
    assert found.pop("still") == 0.0  # exactly, and not the rounding of another batch
    assert min(found.values()) > 1e-3
    last = apply_stack(tiny.make("llama"), {"wanda50": Wanda(calibration=SMALL), "still": Still()})
    assert moved(last)["wanda50"] > 1e-3
    assert moved(last)["still"] == 0.0


def test_a_placebo_says_nothing_of_what_it_moved() -> None:
    model = apply_stack(tiny.make("llama"), {"placebo_batch": PlaceboBatch()})
    assert "active" not in model.facts[0].values
    assert step_checks(model.facts) == []


def test_a_stack_moved_what_its_steps_moved_and_is_inert_only_if_none_did() -> None:
    reference = reference_logits(tiny.make("llama"))
    still = apply_stack(tiny.make("llama"), {"still": Still()})
    checks = step_checks(still.facts)
    assert (reference_logits(still) - reference).abs().max() > 0  # it is read in other batches
    found = stack_check(reference, lambda: reference_logits(still), checks)
    assert (found["max_logit_change"], found["mean_logit_change"]) == (0.0, 0.0)
    model = apply_stack(tiny.make("llama"), {"still": Still(), "hqq4": Hqq(bits=4)})
    found = stack_check(reference, lambda: reference_logits(model), step_checks(model.facts))
    assert found["max_logit_change"] == float((reference_logits(model) - reference).abs().max()) > 1e-3
    assert [(step["step"], step["max_logit_change"] > 0) for step in found["steps"]] == [
        ("still", False),
        ("hqq4", True),
    ]


STACKS = [
    ["hqq4", "kv4"],
    ["wanda50", "hqq4", "kv8"],
    ["sparsegpt24", "hqq4"],
    pytest.param(["sparsegpt24", "bnb8"], marks=pytest.mark.extras),
    pytest.param(["wanda50", "bnb4"], marks=pytest.mark.extras),
    pytest.param(["wanda24", "gptq4", "kv4"], marks=pytest.mark.extras),
    pytest.param(["magnitude50", "awq4"], marks=pytest.mark.extras),
    pytest.param(["wanda50", "ao_int8", "kv8"], marks=pytest.mark.extras),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
@pytest.mark.parametrize("names", STACKS, ids="+".join)
def test_every_step_of_a_stack_acts_and_tells(names: list[str], architecture: str) -> None:
    accels = {name: quick(from_yaml(name)) for name in names}
    for name, accel in accels.items():
        if absent := missing(accel.requires, accel.extra):
            pytest.skip(f"{name}: {absent}")
    assert check_stack(accels) is None
    model = tiny.make(architecture)
    logits = [reference_logits(model)]
    for name, accel in accels.items():
        model = apply_stack(model, {name: accel})
        logits.append(reference_logits(model))
    assert [fact.step for fact in model.facts] == names
    assert all((after - before).abs().max() > 1e-3 for before, after in itertools.pairwise(logits))
    whole = apply_stack(tiny.make(architecture), accels)
    assert torch.equal(reference_logits(whole), logits[-1])
    if names[0] in ("wanda50", "sparsegpt24", "magnitude50", "wanda24"):
        assert whole.facts[0].values["sparsity"] == pytest.approx(0.5, abs=0.01)
    if "bnb8" in names or "bnb4" in names or "ao_int8" in names:
        assert whole.facts[1].values["sparsity"] >= whole.facts[1].values["sparsity_before"]
