"""The pruning engines beside the native one: refused in one line, held to what they may touch, and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.accel import engines, sparsegpt
from biaslab.accel.calibration import Calibration
from biaslab.accel.engines import sparseml
from biaslab.accel.layers import dense_linears
from biaslab.accel.sparsegpt import SparseGpt
from biaslab.accel.stack import label
from biaslab.accel.wanda import Wanda
from biaslab.errors import CellFailed, ConfigError
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_embedded, describe_local, load
from tests.accel import tiny
from tests.cli.run import biaslab

MEASURED = Calibration(samples=16, length=96)


# --- refused, and held to their word -----------------------------------------------------------------------


def test_wrong_engines_and_patterns_are_named() -> None:
    assert str(Wanda(engine="torch").check()).startswith("engine=torch: one of native, llmcompressor, sparseml")
    assert str(SparseGpt(pattern="row", engine="sparseml").check()).startswith("pattern=row: block or n:m")
    assert SparseGpt(pattern="2:4", engine="sparseml").check() is None


def test_the_engine_is_in_the_label() -> None:
    assert label({"wanda50": Wanda(engine="sparseml")}, {"wanda50": Wanda()}) == "wanda50(engine=sparseml)"


def test_a_missing_engine_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIASLAB_SPARSEML_DIR", str(tmp_path / "none"))
    info = tiny.make("llama").info
    words = str(Wanda(engine="sparseml").unsupported(info, "cpu"))
    assert "run python -m biaslab sparseml setup" in words
    assert str(tmp_path / "none") in words
    monkeypatch.setattr("biaslab.libraries.find_spec", lambda _name: None)
    words = str(Wanda(engine="llmcompressor").unsupported(info, "cpu"))
    assert "llmcompressor" in words
    assert "pip install" in words


def test_sparseml_refuses_what_its_old_transformers_does_not_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BIASLAB_SPARSEML_DIR", str(tmp_path))
    (tmp_path / sparseml.READY).write_text("{}")
    assert "not Qwen3ForCausalLM" in str(sparseml.unavailable(tiny.make("qwen3").info))
    info = tiny.make("llama", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}).info
    assert "positions of type linear" in str(sparseml.unavailable(info))
    assert sparseml.unavailable(tiny.make("llama").info) is None


def test_where_the_environment_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BIASLAB_SPARSEML_DIR", raising=False)
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path))
    assert sparseml.environment_dir() == tmp_path / "sparseml"
    monkeypatch.delenv("BIASLAB_CACHE_DIR")
    assert sparseml.environment_dir() == Path.home() / ".cache" / "biaslab" / "sparseml"


def test_a_config_of_today_is_written_as_the_old_version_reads_it() -> None:
    llama = sparseml._old_config({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "bfloat16"})
    assert (llama["rope_theta"], llama["torch_dtype"]) == (5e5, "bfloat16")
    neox = sparseml._old_config({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}})
    assert (neox["rotary_emb_base"], neox["rotary_pct"]) == (1e4, 0.25)


def foreign(monkeypatch: pytest.MonkeyPatch, change: Any) -> LoadedModel:
    """A model that an engine pruned which gives `change(state)` back."""

    def state(model: LoadedModel, *_: Any) -> dict[str, torch.Tensor]:
        found = {name: value.detach().clone() for name, value in model.module.state_dict().items()}
        change(found)
        return found

    monkeypatch.setattr(sparseml, "pruned_state", state)
    pruner = Wanda(engine="sparseml", calibration=Calibration(samples=2, length=8))
    return pruner.apply(tiny.make("llama", tied=True), "wanda50")


def test_weights_are_taken_over_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def halve(state: dict[str, torch.Tensor]) -> None:
        for name, weight in state.items():
            if "_proj.weight" in name:
                weight[:, ::2] = 0

    model = foreign(monkeypatch, halve)
    assert all((m.weight[:, ::2] == 0).all() for m in dense_linears(model.module).values())
    values = model.facts[0].values
    assert (values["engine"], values["engine_version"], values["sparsity"]) == ("sparseml", "1.8.0", 0.5)


def test_an_engine_that_touches_more_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CellFailed, match=r"engine=sparseml changed model\.embed_tokens\.weight"):
        foreign(monkeypatch, lambda state: state["model.embed_tokens.weight"].mul_(0.5))
    with pytest.raises(CellFailed, match=r"gave no model\.norm\.weight of shape \(96,\) back"):
        foreign(monkeypatch, lambda state: state.pop("model.norm.weight"))


# --- the verbs ------------------------------------------------------------------------------------------------


def test_the_verb_without_an_environment(tmp_path: Path) -> None:
    env = {"BIASLAB_SPARSEML_DIR": str(tmp_path / "none")}
    done = biaslab(tmp_path, "sparseml", "check", env=env)
    assert done.code == 2
    assert "has no finished environment; run python -m biaslab sparseml setup" in done.err
    done = biaslab(tmp_path, "sparseml", "build", env=env)
    assert done.code == 2
    assert "sparseml build: setup, or check" in done.err


def test_an_environment_that_does_not_get_finished_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIASLAB_SPARSEML_DIR", str(tmp_path / "it"))

    def fail(folder: Path, python: str) -> None:
        folder.mkdir()
        raise subprocess.CalledProcessError(1, ["pip", "install"])

    monkeypatch.setattr(sparseml, "_pip", fail)
    with pytest.raises(ConfigError, match="is removed again"):
        sparseml.setup()
    assert not (tmp_path / "it").exists()
    monkeypatch.setattr(sparseml, "_pip", lambda folder, python: folder.mkdir())
    assert (sparseml.setup() / sparseml.READY).is_file()
    monkeypatch.setattr(sparseml, "_pip", fail)
    sparseml.setup()  # finished: nothing is built again


def test_a_python_below_312_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name == "python3.10" else None)
    assert sparseml._find_python() == "/bin/python3.10"
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs a Python below 3\.12; put one of python3\.11"):
        sparseml._find_python()


def test_a_broken_environment_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIASLAB_SPARSEML_DIR", str(tmp_path))
    (tmp_path / sparseml.READY).write_text("{}")
    with pytest.raises(ConfigError, match="cannot be used"):
        sparseml.check()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: no sparseml' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(ConfigError, match="sparseml check: SparseML failed: ImportError: no sparseml; delete"):
        sparseml.check()


# --- against the libraries --------------------------------------------------------------------------------------


def stories(data_dir: Path) -> LoadedModel:
    return load(describe_local(str(data_dir / "models" / "tinystories-656k"), ""), device="cpu", dtype="float32")


def pruned(model: LoadedModel, pruner: Any) -> dict[str, torch.Tensor]:
    done = pruner.apply(model, "it")
    return {name: linear.weight.detach() for name, linear in dense_linears(done.module).items()}


def n_different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> int:
    assert set(one) == set(other)
    return sum(int(((one[name] == 0) != (other[name] == 0)).sum()) for name in one)


def published_threshold(W: torch.Tensor, U: torch.Tensor, how: SparseGpt) -> torch.Tensor:
    """The published code's choice: everything up to and with the weight at the share's place, and its ties."""
    costs = W**2 / U.diagonal() ** 2
    return costs <= costs.flatten().sort().values[int(costs.numel() * how.sparsity)]


@pytest.mark.extras
@pytest.mark.data
@pytest.mark.filterwarnings("ignore")  # a foreign library's own
class TestLlmCompressor:
    """On the checkpoint, the rows and the lengths that were measured elsewhere, with equal masks."""

    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("llmcompressor", reason="needs llmcompressor 0.14")

    @pytest.mark.parametrize("pattern", ["row", "2:4"])
    def test_wanda(self, data_dir: Path, pattern: str) -> None:
        mine, theirs = (
            pruned(stories(data_dir), Wanda(pattern=pattern, calibration=MEASURED, engine=engine))
            for engine in ("native", "llmcompressor")
        )
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    def test_sparsegpt_in_groups(self, data_dir: Path) -> None:
        mine, theirs = (
            pruned(stories(data_dir), SparseGpt(pattern="2:4", calibration=MEASURED, engine=engine))
            for engine in ("native", "llmcompressor")
        )
        assert n_different(mine, theirs) == 0
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-4)

    def test_sparsegpt_in_blocks(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pruner = SparseGpt(calibration=MEASURED)
        theirs = pruned(stories(data_dir), SparseGpt(calibration=MEASURED, engine="llmcompressor"))
        exact = pruned(stories(data_dir), pruner)
        size = sum(weight.numel() for weight in exact.values())
        # The library takes one weight more from each block, and its ties; what follows from it moves others.
        assert n_different(exact, theirs) < 0.001 * size
        monkeypatch.setattr(sparsegpt, "_block_mask", published_threshold)
        published = pruned(stories(data_dir), pruner)
        assert n_different(published, theirs) == 0
        for name in published:
            torch.testing.assert_close(published[name], theirs[name], rtol=0, atol=1e-4)

    def test_embeddings_and_head_are_left_whole(self) -> None:
        model = load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")
        kept = tiny.outside_the_decoder(model.module)
        Wanda(calibration=Calibration(samples=64), engine="llmcompressor").apply(model, "wanda50")
        for name, value in model.module.named_parameters():
            assert name not in kept or torch.equal(value, kept[name]), name

    def test_mistral_is_read_within_its_window_and_caught_beyond(self) -> None:
        info = describe_embedded("tiny_mistral")  # a window of 16; the library's tracing loses Mistral's mask
        within, beyond = Calibration(samples=32, length=16), Calibration(samples=32, length=17)
        mine, theirs = (
            pruned(load(info, device="cpu", dtype="float32"), Wanda(calibration=within, engine=engine))
            for engine in ("native", "llmcompressor")
        )
        assert n_different(mine, theirs) == 0
        with pytest.raises(CellFailed, match="calibrates MistralForCausalLM on inputs that the model does not have"):
            pruned(load(info, device="cpu", dtype="float32"), Wanda(calibration=beyond, engine="llmcompressor"))


@pytest.mark.extras
@pytest.mark.sparseml
@pytest.mark.data
@pytest.mark.filterwarnings("ignore")
class TestSparseMl:
    """In its own environment, which `python -m biaslab sparseml setup` builds."""

    @pytest.fixture(autouse=True)
    def _environment(self) -> None:
        if not (sparseml.environment_dir() / sparseml.READY).is_file():
            words = f"needs SparseML's environment: {sparseml.SETUP}"
            (pytest.fail if os.environ.get("BIASLAB_REQUIRE_SPARSEML") else pytest.skip)(words)

    def test_check_names_its_versions(self) -> None:
        versions = sparseml.check()
        assert (versions["sparseml"], versions["transformers"]) == ("1.8.0", "4.40.2")

    @pytest.mark.parametrize("pattern", ["row", "2:4"])
    def test_wanda_masks_equal_the_native_ones(self, data_dir: Path, pattern: str) -> None:
        mine, theirs = (
            pruned(stories(data_dir), Wanda(pattern=pattern, calibration=MEASURED, engine=engine))
            for engine in ("native", "sparseml")
        )
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    @pytest.mark.parametrize("pattern", ["block", "2:4"])
    def test_sparsegpt_masks_equal_the_native_ones(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
    ) -> None:
        theirs = pruned(stories(data_dir), SparseGpt(pattern=pattern, calibration=MEASURED, engine="sparseml"))
        monkeypatch.setattr(sparsegpt, "_block_mask", published_threshold)
        mine = pruned(stories(data_dir), SparseGpt(pattern=pattern, calibration=MEASURED))
        assert n_different(mine, theirs) == 0
        if find_spec("llmcompressor"):
            other = pruned(stories(data_dir), SparseGpt(pattern=pattern, calibration=MEASURED, engine="llmcompressor"))
            assert n_different(other, theirs) == 0

    @pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gpt_neox"])
    def test_every_architecture_it_is_let_near(self, tmp_path: Path, kind: str) -> None:
        from tests.models.make import make_folder

        info = describe_local(str(make_folder(tmp_path / kind, kind)))
        calibration = Calibration(samples=12, length=8)  # mistral's window here is 8
        mine, theirs = (
            pruned(load(info, device="cpu", dtype="float32"), Wanda(calibration=calibration, engine=engine))
            for engine in ("native", "sparseml")
        )
        assert n_different(mine, theirs) <= 2  # two sums in another order may swap neighbours

    def test_a_model_it_reads_otherwise_is_caught(self) -> None:
        model = load(describe_embedded("tiny_mistral"), device="cpu", dtype="float32")
        with pytest.raises(CellFailed, match="computes other logits from tiny_mistral than biaslab does"):
            Wanda(calibration=Calibration(samples=8), engine="sparseml").apply(model, "wanda50")


def test_the_recipe_is_json_that_the_worker_reads() -> None:
    wanda, sparse = Wanda(pattern="1:4", sparsity=0.75)._recipe(), SparseGpt()._recipe()
    assert (wanda.modifier, wanda.mask_structure) == ("WandaPruningModifier", "3:4")
    assert (sparse.mask_structure, sparse.options) == ("0:0", {"block_size": 128, "dampening_frac": 0.01})
    assert json.loads(json.dumps(engines.ENGINES)) == ["native", "llmcompressor", "sparseml"]
