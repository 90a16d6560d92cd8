"""A user's own accelerator: checked after import, in one line; then it is as one of ours."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from biaslab.accel import families
from biaslab.accel.custom import Custom, resolved
from biaslab.accel.hqq import Hqq
from biaslab.accel.stack import apply_stack, check_stack, label
from biaslab.errors import CellFailed, ConfigError
from tests.accel import tiny
from tests.cli.run import biaslab

OWN = '''
from dataclasses import dataclass
from biaslab.accel.base import Accelerator
from biaslab.accel.facts import weight_bytes
from biaslab.accel.layers import dense_linears
from biaslab.models.base import Fact

@dataclass
class Scale(Accelerator):
    """Multiply every weight."""
    factor: float = 0.5
    family = "scale"
    kind = "pruner"
    summary = "multiplies every weight"

    def check(self):
        return None if self.factor > 0 else f"factor={self.factor}: above 0"

    def apply(self, model, name):
        for layer in dense_linears(model.module).values():
            layer.weight.data *= self.factor
        model.facts.append(Fact(name, "scaled", {"factor": self.factor, "bytes": weight_bytes(model.module)}))
        return model

@dataclass
class Forgets(Scale):
    family = "forgets"
    def apply(self, model, name):
        return model

@dataclass
class Clash(Scale):
    family = "hqq"

@dataclass
class Strange(Scale):
    family = "strange"
    kind = "magic"

class NoFields(Scale):
    family = "nofields"

@dataclass
class Abstract(Accelerator):
    family = "abstract"
    kind = "pruner"
    summary = "none"

@dataclass
class Nameless(Accelerator):
    def apply(self, model, name):
        return model

def function():
    pass
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    name = f"own_accels_{abs(hash(request.node.name)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(OWN))
    (tmp_path / f"{name}_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_it_stands_under_its_own_name_with_its_own_fields(module: str) -> None:
    custom = Custom(target=f"{module}.Scale", params={"factor": 0.25})
    found = resolved({"custom": custom, "hqq4": Hqq()}, families())
    assert list(found) == ["scale", "hqq4"]
    assert label(found, {"hqq4": Hqq()}) == "scale(factor=0.25)+hqq4"
    assert check_stack(found) is None
    assert check_stack({"hqq4": Hqq(), "scale": found["scale"]}) is not None
    model = apply_stack(tiny.make("llama"), found)
    assert model.facts[0].values["factor"] == 0.25
    # Under a name that its user's own YAML has given it, it keeps that name.
    assert list(resolved({"mine": custom}, families())) == ["mine"]


def test_its_source_is_part_of_its_identity(module: str, tmp_path: Path) -> None:
    info = tiny.make("llama").info
    accel = Custom(target=f"{module}.Scale").accelerator()
    before = accel.identity(info)
    assert before["family"] == "scale"
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(OWN) + "\n# changed\n")
    assert accel.identity(info) != before
    assert "code" not in Hqq().identity(info)


WRONG = {
    "": "target=: name a class as package.module.Class",
    "Scale": "target=Scale: name a class as package.module.Class",
    "nowhere.at.All": "no module nowhere; it is looked for in the working folder and PYTHONPATH",
    "{}_broken.Scale": "importing it failed (ZeroDivisionError: division by zero)",
    "{}.Scales": "has no Scales; its accelerators: ['Abstract', 'Clash',",
    "{}.function": "it does not extend biaslab.accel.base.Accelerator",
    "{}.Abstract": "it lacks apply",
    "{}.NoFields": "it is no dataclass; put @dataclass above it",
    "{}.Nameless": "it lacks the class attributes family, kind, summary (str)",
    "{}.Strange": "kind='magic': one of pruner, quantizer, cache, placebo",
    "{}.Clash": "accel.custom: the name 'hqq' is taken by biaslab; choose another",
}


@pytest.mark.parametrize("target", WRONG)
def test_a_wrong_class_is_one_line(module: str, target: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolved({"custom": Custom(target=target.format(module))}, families())
    assert str(raised.value).startswith("accel.custom")
    assert WRONG[target] in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"factr": 1}, "accel.custom.params.factr: no such field; Scale has factor"),
        ({"factor": "x"}, "accel.custom.params.factor: Value 'x' of type 'str' could not be converted to Float"),
        ({"factor": -1}, "accel.custom.params.factor=-1.0: above 0"),
    ],
)
def test_wrong_params_are_one_line(module: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolved({"custom": Custom(target=f"{module}.Scale", params=params)}, families())
    assert str(raised.value).startswith(words)


def test_a_step_that_leaves_no_fact_fails_the_cell(module: str) -> None:
    with pytest.raises(CellFailed, match="forgets: apply must return the LoadedModel with one Fact"):
        apply_stack(tiny.make("llama"), resolved({"custom": Custom(target=f"{module}.Forgets")}, families()))


@pytest.mark.slow
def test_it_runs_as_typed_and_from_a_folder_of_configs(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(textwrap.dedent(OWN))
    conf = tmp_path / "conf" / "accel"
    conf.mkdir(parents=True)
    (conf / "third.yaml").write_text(
        "# @package accel.third\ndefaults:\n  - /schema/accel/custom@_here_\n  - _self_\n"
        "target: own.Scale\nparams:\n  factor: 0.33\n"
    )
    small = ("benchmark=planted", "limit=30", "analysis=skip")
    own = ("accel=custom", "accel.custom.target=own.Scale", "accel.custom.params={factor: 0.9}")
    typed = biaslab(tmp_path, *own, *small)
    assert typed.code == 0, typed
    assert "tiny_llama scale(factor=0.9) planted: 30 records" in typed.out
    filed = biaslab(tmp_path, "--config-dir", "conf", "accel=third", *small)
    assert filed.code == 0, filed
    assert "tiny_llama third planted: 30 records" in filed.out
    wrong = biaslab(tmp_path, "accel=custom", "accel.custom.target=own.Scales", *small)
    assert wrong.code == 2
    assert wrong.err.startswith("biaslab: accel.custom.target=own.Scales: own has no Scales")
    assert wrong.err.count("\n") == 1
