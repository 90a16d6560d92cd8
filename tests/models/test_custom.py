"""A user's own model: checked after import, loaded once, kept as a folder, and named by what it is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.config import Config, ModelConfig, validate
from biaslab.errors import CellFailed, ConfigError, DataMismatch
from biaslab.models import custom
from biaslab.models.base import ModelInfo
from biaslab.models.loading import load
from tests.cli.run import biaslab
from tests.models import plain
from tests.models.make import make_folder

OWN = '''
from dataclasses import dataclass, field
from pathlib import Path
import torch
from torch import nn
from biaslab.models.base import Model
from biaslab.models.folders import describe_local

CALLS = []

@dataclass
class Scaled(Model):
    """A folder whose output projections are multiplied."""
    path: str = "FOLDER"
    factor: float = 0.5
    layers: list[int] = field(default_factory=lambda: [0])
    name = "scaled"
    note = "scaled on purpose"

    def check(self):
        return None if self.factor > 0 else f"factor={self.factor}: above 0"

    def fingerprint(self):
        return describe_local(self.path).identity

    def load(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer
        CALLS.append(self.factor)
        module = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32)
        for i in self.layers:
            module.model.layers[i].self_attn.o_proj.weight.data *= self.factor
        return module, AutoTokenizer.from_pretrained(self.path)

@dataclass
class Drawn(Scaled):
    """Random weights, without a seed of its own."""
    name = "drawn"
    def load(self):
        module, tokenizer = super().load()
        for p in module.parameters():
            nn.init.normal_(p, std=0.1)
        return module, tokenizer

@dataclass
class Half(Scaled):
    name = "half"
    def load(self):
        module, tokenizer = super().load()
        return module.bfloat16(), tokenizer

@dataclass
class Abstract(Model):
    name = "abstract"

@dataclass
class Nameless(Scaled):
    name = None

class NoFields(Scaled):
    name = "nofields"

@dataclass
class Raises(Scaled):
    def load(self):
        raise RuntimeError("two\\nlines")

@dataclass
class Missing(Scaled):
    def load(self):
        open("nowhere.bin")

@dataclass
class Alone(Scaled):
    def load(self):
        return super().load()[0]

@dataclass
class Swapped(Scaled):
    def load(self):
        return super().load()[::-1]

@dataclass
class Words(Scaled):
    def load(self):
        return super().load()[0], str.split

@dataclass
class Headless(Scaled):
    def load(self):
        module, tokenizer = super().load()
        return module.model, tokenizer

@dataclass
class Quantized(Scaled):
    def load(self):
        module, tokenizer = super().load()
        module.config.quantization_config = {"quant_method": "gptq"}
        return module, tokenizer

@dataclass
class Double(Scaled):
    def load(self):
        module, tokenizer = super().load()
        return module.double(), tokenizer

@dataclass
class Grown(Scaled):
    def load(self):
        module, tokenizer = super().load()
        tokenizer.add_tokens([f"word{i}" for i in range(999)])
        return module, tokenizer

@dataclass
class Broken(Scaled):
    def load(self):
        module, tokenizer = super().load()
        module.lm_head.weight.data[3] = float("nan")
        return module, tokenizer

@dataclass
class Hooked(Scaled):
    """Changes what no file holds."""
    def load(self):
        module, tokenizer = super().load()
        module.model.layers[0].register_forward_hook(lambda m, args, out: out * 1.5)
        return module, tokenizer

@dataclass
class Added(Scaled):
    """Brings a weight that the architecture does not know."""
    def load(self):
        module, tokenizer = super().load()
        module.extra = nn.Linear(4, 4)
        return module, tokenizer

@dataclass
class NoPrint(Scaled):
    def fingerprint(self):
        raise KeyError("weights")

def function():
    pass
'''

Describe = Callable[..., ModelInfo]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("base") / "base", "llama")


@pytest.fixture
def module(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of an importable module with the classes of OWN; the cache is a folder of this test's."""
    name = f"own_models_{abs(hash(request.node.name)) % 10**8}"
    write(tmp_path / f"{name}.py", base)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path / "cache"))
    return name


@pytest.fixture
def describe(module: str) -> Describe:
    return lambda cls, name="", **params: custom.describe_custom(f"{module}.{cls}", params or None, name)


def write(file: Path, base: Path) -> None:
    file.write_text(textwrap.dedent(OWN).replace("FOLDER", str(base)))


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir())


def calls(module: str) -> list[float]:
    found: list[float] = __import__(module).CALLS
    return found


def test_its_weights_are_what_load_returned(describe: Describe, base: Path) -> None:
    info = describe("Scaled")
    assert (info.label, info.source, info.note) == ("scaled", "custom", "scaled on purpose")
    assert info.architecture == "LlamaForCausalLM"
    assert info.weights is not None
    found = load(info, device="cpu", dtype="float32").module.state_dict()
    expected = dict(plain.load(base)[0].state_dict())
    expected["model.layers.0.self_attn.o_proj.weight"] = expected["model.layers.0.self_attn.o_proj.weight"] * 0.5
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key].float()) for key in found)


def test_it_is_loaded_once_however_often_it_is_described(describe: Describe, module: str, tmp_path: Path) -> None:
    first, again, other = describe("Scaled"), describe("Scaled", factor=0.5), describe("Scaled", factor=0.25)
    assert first == again
    assert first.identity != other.identity
    assert calls(module) == [0.5, 0.25]
    assert len(kept(tmp_path)) == 2  # and nothing half made


def test_the_label_shows_the_fields_that_were_changed(describe: Describe, base: Path) -> None:
    assert describe("Scaled", factor=0.25, layers=[0, 1]).label == "scaled(factor=0.25,layers=0-1)"
    assert describe("Scaled", path=f"{base}/").label == "scaled(path=base)"
    assert describe("Scaled", name="mine", factor=0.25).label == "mine"


def test_another_source_is_another_model_and_is_loaded_again(
    describe: Describe, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = describe("Scaled")
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write("\n# changed\n")
    after = describe("Scaled")
    assert after.identity != before.identity
    assert after.identity.split("+")[0] == before.identity.split("+")[0]  # the weights are the same
    assert calls(module) == [0.5, 0.5]


def test_what_its_fingerprint_reads_makes_it_load_again(describe: Describe, module: str, tmp_path: Path) -> None:
    moved = make_folder(tmp_path / "moved", "llama", seed=1)
    before = describe("Scaled", path=str(moved))
    make_folder(tmp_path / "moved", "llama", seed=2)
    after = describe("Scaled", path=str(moved))
    assert after.identity.split("+")[0] != before.identity.split("+")[0]
    assert calls(module) == [0.5, 0.5]


def test_what_it_is_made_of_is_known(describe: Describe, module: str, base: Path) -> None:
    made_of = describe("Scaled", factor=0.25).made_of
    assert made_of["target"] == f"{module}.Scaled"
    assert made_of["params"] == {"path": str(base), "factor": 0.25, "layers": [0]}
    assert made_of["fingerprint"].startswith("sha256:")
    assert len(made_of["code"]) == 64


def test_weights_that_nobody_seeded_are_the_same_again(describe: Describe, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    first = describe("Drawn")
    assert torch.equal(torch.random.get_rng_state(), state)
    for path in (tmp_path / "cache" / "models").glob("drawn*/made_of.json"):
        path.unlink()  # a folder that lost a file is made again
    assert describe("Drawn").identity == first.identity


def test_half_precision_is_kept_as_it_is(describe: Describe) -> None:
    half, whole = (sum(file.stat().st_size for file in Path(describe(cls).path).glob("*.safetensors")) for cls in
                   ("Half", "Scaled"))  # fmt: skip
    assert 0.4 * whole < half < 0.6 * whole


def test_a_folder_that_was_changed_is_refused(describe: Describe, tmp_path: Path) -> None:
    describe("Scaled")
    (weights,) = (tmp_path / "cache" / "models").glob("scaled*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataMismatch, match="not as it was written; delete the folder to load the model again"):
        describe("Scaled")


def test_a_cache_that_cannot_be_written_is_one_line(
    describe: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(CellFailed, match="Not a directory; set BIASLAB_CACHE_DIR to where there is room"):
        describe("Scaled")


WRONG = {
    "": "model.target=: name a class as package.module.Class",
    "Scaled": "model.target=Scaled: name a class as package.module.Class",
    "nowhere.at.All": "no module nowhere; it is looked for in the working folder and PYTHONPATH",
    "{}.Scalled": "has no Scalled; its models: ['Abstract', 'Added',",
    "{}.function": "it does not extend biaslab.models.base.Model",
    "{}.Abstract": "it lacks load",
    "{}.NoFields": "it is no dataclass; put @dataclass above it",
    "{}.Nameless": "it lacks the class attributes name (str)",
    "{}.NoPrint": "fingerprint() failed (KeyError: 'weights')",
    "{}.Raises": "load() failed (RuntimeError: two lines)",
    "{}.Missing": "load() failed (FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.bin')",
    "{}.Alone": "load() must return (model, tokenizer); it returned LlamaForCausalLM",
    "{}.Swapped": "is no transformers PreTrainedModel",
    "{}.Words": "method_descriptor is no transformers tokenizer",
    "{}.Headless": "LlamaModel is no causal language model (its name must end with ForCausalLM)",
    "{}.Quantized": "it is quantized already; name its original here, and this one by accel=prequantized",
    "{}.Double": "its weights are float64; make them one of float32, bfloat16, float16",
    "{}.Grown": "tokens, the embedding",
    "{}.Broken": "load() returned a model with NaN or infinite logits",
    "{}.Hooked": "read back from its folder it answers otherwise than what load() returned (a logit changes by",
    "{}.Added": "cannot be read back",
}


@pytest.mark.parametrize("target", WRONG)
def test_a_wrong_class_is_one_line_and_leaves_nothing_behind(module: str, target: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        custom.describe_custom(target.format(module), None)
    assert str(raised.value).startswith("model.target=")
    assert WRONG[target] in str(raised.value)
    assert "\n" not in str(raised.value)
    method = next((m for m in ("load", "fingerprint") if f"{m}() failed" in WRONG[target]), "")
    method = "load" if "load() must return" in str(raised.value) else method
    if method:  # where it is written, too
        name = target.removeprefix("{}.")
        assert re.search(rf"[ (]{name}\.{method}, \S*{module}\.py:\d+\)?$", str(raised.value))
    assert not (tmp_path / "cache").exists() or kept(tmp_path) == []


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"factr": 1}, "model.params.factr: no such field; Scaled has path, factor, layers"),
        ({"factor": "x"}, "model.params.factor: Value 'x' of type 'str' could not be converted to Float"),
        ({"factor": -1}, "model.params.factor=-1.0: above 0"),
    ],
)
def test_wrong_params_are_one_line(describe: Describe, params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        describe("Scaled", **params)
    assert str(raised.value).startswith(words)


def test_a_wrong_line_ends_with_2(tmp_path: Path, base: Path) -> None:
    write(tmp_path / "own.py", base)
    ended = biaslab(tmp_path, "model=custom", "model.target=own.Scalled", "benchmark=planted", "accel=hqq4")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert ended.err.startswith("biaslab: model.target=own.Scalled: own has no Scalled; its models: [")


def test_a_class_without_model_custom_is_refused(module: str) -> None:
    with pytest.raises(ConfigError, match=r"^model.target=own.Scaled: a class of your own needs model=custom$"):
        validate(Config(model=ModelConfig("embedded", "tiny_llama", target="own.Scaled")))
