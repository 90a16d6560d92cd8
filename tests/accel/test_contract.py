"""Every accelerator keeps the contract; none is named here, so a new one is tested by being there."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from biaslab.accel import families
from biaslab.accel.active import active_check, reference_logits
from biaslab.accel.base import Accelerator
from biaslab.accel.layers import dense_linears
from biaslab.libraries import missing
from tests.accel import tiny

CONF = Path(__file__).parents[2] / "conf"
FAMILIES = families()
CHOICES = sorted(path.stem for path in (CONF / "accel").glob("*.yaml"))


def family_of(choice: str) -> type[Accelerator]:
    """The class a choice's YAML names."""
    schema = yaml.safe_load((CONF / "accel" / f"{choice}.yaml").read_text())["defaults"][0]
    return FAMILIES[schema.removesuffix("@_here_").removeprefix("/schema/accel/")]


def runnable() -> list[Any]:
    """Every choice; those of an optional library run where it is installed, in the tier of the extras."""
    return [
        pytest.param(choice, marks=[pytest.mark.extras, pytest.mark.filterwarnings("ignore")] if optional else [])
        for choice in CHOICES
        for optional in [family_of(choice).requires and family_of(choice).extra]
    ]


KINDS = ("baseline", "pruner", "quantizer", "cache", "placebo", "custom", "checkpoint")
MODELS = [(architecture, tied) for architecture in tiny.ARCHITECTURES for tied in (False, True)]


def from_yaml(choice: str) -> Accelerator:
    """The accelerator as Hydra composes it from conf/accel/<choice>.yaml."""
    store = ConfigStore.instance()
    for family, cls in FAMILIES.items():
        store.store(family, node=cls, group="schema/accel")
    with initialize_config_dir(str(CONF), version_base=None):
        composed = compose(overrides=[f"+accel={choice}"])
    accel = OmegaConf.to_object(composed.accel[choice])
    assert isinstance(accel, Accelerator)
    return accel


def quick(accel: Accelerator) -> Accelerator:
    """The same accelerator with the fields of its seconds-long test configuration."""
    return dataclasses.replace(accel, **type(accel).test_config())


@pytest.mark.parametrize("family", FAMILIES)
def test_family_describes_itself(family: str) -> None:
    cls = FAMILIES[family]
    assert cls.family == family
    assert cls.kind in KINDS
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "the dataclass wrote this docstring itself"
    assert cls.summary
    assert "\n" not in cls.summary
    assert (cls(**cls.test_config()).check() is None) == (cls.kind != "checkpoint")


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_a_structured_config(family: str) -> None:
    cls = FAMILIES[family]
    structured = OmegaConf.structured(cls)
    assert OmegaConf.to_object(structured) == cls()
    with pytest.raises(Exception, match="not_a_field"):
        OmegaConf.merge(structured, {"not_a_field": 1})


@pytest.mark.parametrize("family", FAMILIES)
def test_check_names_the_field_and_what_is_allowed(family: str) -> None:
    cls = FAMILIES[family]
    for field in dataclasses.fields(cls):
        if field.type in ("int", "float"):
            words = dataclasses.replace(cls(), **{field.name: -7}).check()
            assert words is not None, f"{family}.{field.name}=-7 passes"
            assert words.startswith(f"{field.name}=-7: ")


def test_every_family_has_a_choice() -> None:
    assert {from_yaml(choice).family for choice in CHOICES} == set(FAMILIES)


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_is_packaged_under_its_own_name(choice: str) -> None:
    text = (CONF / "accel" / f"{choice}.yaml").read_text()
    assert text.splitlines()[0] == f"# @package accel.{choice}"
    assert family_of(choice).family in FAMILIES
    assert (quick(from_yaml(choice)).check() is None) == (family_of(choice).kind != "checkpoint")


def ready(choice: str, model: Any) -> Accelerator:
    """The choice in its quick configuration, after what it says of a library or a GPU that is not here."""
    accel = quick(from_yaml(choice))
    if accel.kind == "checkpoint":
        assert accel.check() is not None, "it cannot work without being given a checkpoint"
        pytest.skip("needs a checkpoint of its own: its own tests make them")
    if accel.extra and accel.requires and (absent := missing(accel.requires, accel.extra)):
        pytest.skip(absent)
    if accel.needs_gpu and not torch.cuda.is_available():
        reason = accel.unsupported(model.info, "cpu")
        assert reason == f"{accel.needs_gpu} needs a GPU, and this device is cpu"
        pytest.skip(reason)
    reason = accel.unsupported(model.info, "cpu")
    if reason is not None and getattr(accel, "backend", "own") != "own":
        pytest.skip(reason)  # a library's cache knows no sliding window, and says so by name
    assert reason is None
    return accel


@pytest.mark.parametrize("choice", CHOICES)
def test_an_absent_library_is_named_with_the_line_that_installs_it(
    choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    accel = quick(from_yaml(choice))
    monkeypatch.setattr("biaslab.libraries.find_spec", lambda name: None)
    reason = accel.unsupported(tiny.make("llama").info, "cuda" if accel.needs_gpu else "cpu")
    if accel.requires:
        assert reason is not None
        assert reason.startswith(accel.requires[0])
        assert "installed: pip install " in reason
    else:
        assert reason is None


@pytest.mark.parametrize(("architecture", "tied"), MODELS)
@pytest.mark.parametrize("choice", runnable())
def test_choice_works_on_every_architecture(choice: str, architecture: str, tied: bool) -> None:
    model = tiny.make(architecture, tied=tied)
    accel = ready(choice, model)
    kept = tiny.outside_the_decoder(model.module)
    if accel.rescales:
        kept = {name: value for name, value in kept.items() if "norm" not in name and "bias" not in name}
    before = reference_logits(model)

    after_model = accel.apply(model, choice)

    after = reference_logits(after_model)  # raises for NaN and infinity
    now = dict(after_model.module.named_parameters())
    for name, value in kept.items():
        if name in now:  # a packed layer keeps its bias outside its parameters; hqq's tests look at it
            assert torch.equal(now[name], value.to(now[name].dtype)), name
    assert {"lm_head.weight"} <= set(now) or tied
    check = active_check(before, after)
    if accel.kind in ("baseline", "placebo"):
        assert check["mean_logit_change"] < 0.02  # rounding: logits are of order 1
    elif getattr(accel, "mode", "") == "published":
        assert check["max_logit_change"] < 1e-4  # as in the paper's code, no score reads this cache
    else:
        assert check["max_logit_change"] > 1e-3


@pytest.mark.parametrize("choice", runnable())
def test_choice_is_deterministic_and_reports_plain_json(choice: str) -> None:
    def run() -> tuple[torch.Tensor, list[dict[str, Any]]]:
        model = tiny.make("qwen2", tied=True)
        model = ready(choice, model).apply(model, choice)
        return reference_logits(model), [dataclasses.asdict(fact) for fact in model.facts]

    (logits, facts), (again, _) = run(), run()
    assert torch.equal(logits, again)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    is_baseline = FAMILIES[from_yaml(choice).family].kind == "baseline"
    assert [fact["step"] for fact in facts] == ([] if is_baseline else [choice])
    for fact in facts:
        assert fact["method"]
        assert fact["values"]["bytes"] > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("choice", runnable())
def test_choice_works_in_half_precision(choice: str, dtype: torch.dtype) -> None:
    model = tiny.make("llama", dtype=dtype)
    after = ready(choice, model).apply(model, choice)
    reference_logits(after)
    assert all(layer.weight.dtype == after.dtype for layer in dense_linears(after.module).values())


def test_discovery_brings_no_heavy_library() -> None:
    code = (
        "import sys; from biaslab.accel import families, stack; families();"
        "print([m for m in ('torch', 'transformers', 'hqq', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_broken_module_raises_instead_of_vanishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import biaslab.accel as package

    (tmp_path / "broken_family.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        package.families.__wrapped__()


def test_two_families_of_one_name_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import biaslab.accel as package

    taken = next(iter(FAMILIES))
    (tmp_path / "second_claim.py").write_text(
        f"from biaslab.accel.base import Accelerator\nclass Second(Accelerator):\n    family = {taken!r}\n"
        "    def apply(self, model, name): return model\n"
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    with pytest.raises(TypeError, match=f"both claim the family '{taken}'"):
        package.families.__wrapped__()
