"""Accelerators in order: which stacks make sense, what they are called, and applying them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from biaslab.accel.active import reading, reference_logits, step_check
from biaslab.accel.base import Accelerator
from biaslab.errors import CellFailed
from biaslab.labels import changed
from biaslab.models.base import LoadedModel
from biaslab.own_code import defined_in

#: Fields that make replicates of one accelerator, not another accelerator: they stay out of its label.
REPLICATES = frozenset({"calibration.seed"})


def check_stack(accels: Mapping[str, Accelerator]) -> str | None:
    """The reason why these accelerators make no sense together in this order, or None."""
    if len(accels) < 2:
        return None
    quantizer = cache = ""
    for name, accel in accels.items():
        if accel.kind in ("baseline", "placebo"):
            return f"{name} is a {accel.kind} and stands alone; leave it out of the stack"
        if accel.kind == "checkpoint" and name != next(iter(accels)):
            return f"{name} brings weights of its own; put it first"
        if accel.kind == "pruner" and quantizer:
            return f"{name} prunes dense weights, and {quantizer} before it leaves none; put {name} first"
        if accel.kind in ("pruner", "quantizer") and cache:  # the same arm under a second label
            return f"{name} changes weights, and {cache} before it only the cache; put {name} first"
        if accel.kind == "quantizer":
            if quantizer:
                return f"{quantizer} and {name} both quantize the weights; choose one"
            quantizer = name
        if accel.kind == "cache":
            if cache:
                return f"{cache} and {name} both quantize the KV cache; choose one"
            cache = name
    return None


def apply_stack(model: LoadedModel, accels: Mapping[str, Accelerator]) -> LoadedModel:
    """`model` with every accelerator applied in order (in place); one Fact a step."""
    for name, accel in accels.items():
        model = applied(model, accel, name)
    return model


def applied(model: LoadedModel, accel: Accelerator, name: str) -> LoadedModel:
    """One step, with what it moved in its Fact: on the fixed prompts, before and after it.

    CellFailed if it gives back no model or no Fact of what it did (a user's own class may not). A placebo's Fact
    says nothing of the kind: it is there to move nothing.
    """
    if accel.kind == "baseline":
        return accel.apply(model, name)
    n_facts, was_read = len(model.facts), reading(model)
    before = None if accel.kind == "placebo" else reference_logits(model)
    done = accel.apply(model, name)
    if not isinstance(done, LoadedModel) or len(done.facts) != n_facts + 1:
        where = defined_in(type(accel), "apply")
        raise CellFailed(f"{name}: apply must return the LoadedModel with one Fact of this step added ({where})")
    if before is not None:
        fact = done.facts[-1]
        done.facts[-1] = replace(fact, values={**fact.values, **step_check(before, was_read, done)})
    return done


def label(accels: Mapping[str, Accelerator], defaults: Mapping[str, Accelerator]) -> str:
    """The word for an arm: "none", "wanda50+hqq4", "hqq4(group_size=32)".

    defaults : choice name -> the accelerator as its YAML gives it; a field that differs is shown. A name
        without a default is compared with its class's own values. The calibration seed is never shown:
        seeds are replicates of one accelerator.
    """
    parts = [
        name + changed(asdict(accel), asdict(defaults.get(name) or type(accel)()), REPLICATES)
        for name, accel in accels.items()
        if accel.kind != "baseline"
    ]
    return "+".join(parts) or "none"
