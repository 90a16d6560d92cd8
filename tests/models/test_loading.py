"""Describing without torch, loading without surprises, and every bad folder refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.errors import CellFailed, ConfigError, DataMismatch, DataUnavailable
from biaslab.models import embedded
from biaslab.models.base import LoadedModel, ModelInfo, Planted
from biaslab.models.loading import (
    default_device,
    describe_embedded,
    describe_hub,
    describe_local,
    free_memory,
    load,
    resolve_dtype,
    safe_label,
)
from tests.models.make import KINDS, make_folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact Llama folder; tests change a copy."""
    return make_folder(tmp_path_factory.mktemp("clean") / "my model!", "llama")


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    shutil.copytree(clean, tmp_path / "copy")
    return tmp_path / "copy"


def load_cpu(info: ModelInfo, **more: Any) -> LoadedModel:
    return load(info, device="cpu", dtype="float32", **more)


def change_json(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | values), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_every_architecture_load_as_saved(tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file

    path = make_folder(tmp_path / kind, kind)
    info = describe_local(str(path))
    assert (info.label, info.source, info.planted) == (kind, "local", None)
    model = load_cpu(info)
    assert type(model.module).__name__ == info.architecture
    assert not model.module.training
    on_disk, loaded = load_file(path / "model.safetensors"), model.module.state_dict()
    saved = {name.replace("embed_out", "lm_head"): value for name, value in on_disk.items()}  # GPT-NeoX
    assert all(torch.equal(loaded[name], value) for name, value in saved.items())
    assert set(loaded) - set(saved) <= {"lm_head.weight"}  # qwen2's, tied to the embedding
    assert model.context_length == 512
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)


@pytest.mark.data
@pytest.mark.parametrize("name", ["stories260K-hf", "tinystories-656k"])
def test_real_checkpoints_load(data_dir: Path, name: str) -> None:
    model = load_cpu(describe_local(str(data_dir / "models" / name), "mine"))
    assert model.info.label == "mine"
    assert sum(p.numel() for p in model.module.parameters()) > 250_000


@pytest.mark.parametrize("name", embedded.names())
def test_embedded_models_come_with_their_truth_and_note(name: str) -> None:
    info = describe_embedded(name)
    assert (info.label, info.source, info.note) == (name, "embedded", embedded.note(name))
    assert info.planted == Planted(float(embedded.truth(name)["scale"]))
    assert load_cpu(info).context_length == 4096


def test_a_dtype_is_computed_in_whatever_was_saved(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "half", "llama", dtype="float16")
    for dtype in ("float32", "bfloat16"):
        model = load(describe_local(str(path)), device="cpu", dtype=dtype)
        assert {p.dtype for p in model.module.parameters()} == {model.dtype} == {getattr(torch, dtype)}


def test_describing_imports_neither_torch_nor_transformers(clean: Path) -> None:
    code = (
        "import sys; from biaslab.models.loading import *\n"
        f"describe_local({str(clean)!r}); describe_embedded('tiny_llama')\n"
        "print([m for m in ('torch', 'transformers', 'hqq') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_prints_nothing(clean: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_cpu(describe_local(str(clean)))
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_the_identity_is_of_contents_and_not_of_the_place(clean: Path, folder: Path) -> None:
    same = describe_local(str(clean)).identity
    assert describe_local(str(folder)).identity == same
    assert same.startswith("sha256:")
    (folder / "README.md").write_text("notes decide nothing")
    assert describe_local(str(folder)).identity == same


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_the_identity_changes_with_weights_config_and_tokenizer(clean: Path, folder: Path, name: str) -> None:
    before = describe_local(str(folder)).identity
    if name == "model.safetensors":
        change_weights(folder, lambda weights: weights["model.norm.weight"].mul_(1.5))
    else:
        change_json(folder / name, another_key=1)
    changed = describe_local(str(folder)).identity
    assert changed != before == describe_local(str(clean)).identity


def test_the_label_is_the_folders_name_made_safe(clean: Path) -> None:
    assert describe_local(str(clean)).label == "my-model"
    assert describe_local(str(clean), "given").label == "given"
    assert [safe_label(text) for text in ("a/b c", "..", "é", "x" * 200)] == [
        "a-b-c",
        "model",
        "model",
        "x" * 120,
    ]


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "config.json", **values)


def pickled_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lost_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "no such folder"),
        (remove("config.json"), r"no config\.json there"),
        (write("config.json", b"{"), r"config\.json cannot be read"),
        (write("config.json", b"\xff\xfe"), r"config\.json cannot be read"),
        (write("config.json", b"[]"), "names no architecture"),
        (config(architectures=None), "names no architecture"),
        (config(architectures=["BertForMaskedLM"]), "BertForMaskedLM is no causal language model"),
        (remove("tokenizer.json"), "no tokenizer there.*save the model's own"),
        (remove("model.safetensors"), r"no weights there \(\*\.safetensors\)"),
        (pickled_only, r"only pickled weights there \(pytorch_model\.bin\).*convert them to safetensors"),
        (truncated, r"truncated or corrupt \(\d+ bytes, its header says \d+\); fetch it again"),
        (write("model.safetensors", b""), "truncated or"),
        (
            write("model.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!data"),
            "truncated or no safetensors",
        ),
        (
            write("model.safetensors", b'\x0b\x00\x00\x00\x00\x00\x00\x00{"a": {}}  data'),
            "truncated or no safetensors",
        ),
        (lost_shard, r"1 of 2 weight files are missing, e\.g\. model-00002"),
        (write("model.safetensors.index.json", b"{}"), r"index\.json cannot be read"),
        (
            config(auto_map={"AutoModelForCausalLM": "own.Own"}, model_type="own"),
            r"needs Python code.*model\.trust_remote_code=true",
        ),
    ],
)
def test_a_bad_folder_is_refused_in_one_line_before_anything_is_loaded(
    folder: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(folder)
    with pytest.raises(ConfigError, match=words) as caught:
        describe_local(str(folder))
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_no_path_says_what_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"needs model\.path=DIR"):
        describe_local("")


def test_code_that_transformers_has_itself_is_not_needed_and_not_run(folder: Path) -> None:
    change_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "own.Own"})
    (folder / "own.py").write_text("raise SystemExit('the code of the folder ran')")
    model = load_cpu(describe_local(str(folder)))
    assert type(model.module).__name__ == "LlamaForCausalLM"


def test_trusted_code_is_described() -> None:
    from biaslab.models.folders import _needs_own_code

    assert not _needs_own_code({"model_type": "own"})
    assert _needs_own_code({"model_type": "own", "auto_map": {"x": "y"}})
    assert _needs_own_code({"model_type": "../llama", "auto_map": {"x": "y"}})
    assert not _needs_own_code({"model_type": "gpt-neox", "auto_map": {"x": "y"}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda w: w.pop("model.norm.weight"),
            r"lacks 1 weights of the architecture, e\.g\. model\.norm\.weight",
        ),
        (lambda w: w.pop("lm_head.weight"), r"lacks 1 weights of the architecture, e\.g\. lm_head\.weight"),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}),
            "has 1 weights that the architecture does not know",
        ),
        (lambda w: w.update({"model.norm.weight": torch.ones(31)}), "another shape|cannot be loaded"),
    ],
)
def test_a_checkpoint_that_is_not_the_architectures_is_never_filled_with_random_weights(
    folder: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    change_weights(folder, change)
    with pytest.raises(CellFailed, match=words) as caught:
        load_cpu(describe_local(str(folder)))
    assert "\n" not in str(caught.value)


def test_weights_garbled_after_they_were_described_fail_in_one_line(folder: Path) -> None:
    info = describe_local(str(folder))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CellFailed, match="cannot be"):
        load_cpu(info)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CellFailed, match="cannot be loaded"):
        load_cpu(info)


def test_an_accelerators_load_arguments_reach_transformers(clean: Path) -> None:
    info = describe_local(str(clean))
    model = load_cpu(info, load_kwargs={"attn_implementation": "eager", "dtype": torch.bfloat16})
    assert model.module.config._attn_implementation == "eager"
    assert model.module.dtype == torch.bfloat16


def test_an_unknown_dtype_is_refused(clean: Path) -> None:
    with pytest.raises(ConfigError, match="dtype=int3: choose one of float32, bfloat16, float16"):
        load(describe_local(str(clean)), device="cpu", dtype="int3")


def test_unknown_and_changed_embedded_models_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"model\.name=tiny_gpt: no such .* choose one of tiny_llama, tiny_mistral"):
        describe_embedded("tiny_gpt")
    copy = tmp_path / "tiny_llama"
    shutil.copytree(embedded.folder("tiny_llama"), copy)
    change_weights(copy, lambda weights: weights["model.norm.weight"].mul_(2))
    monkeypatch.setattr(embedded, "folder", lambda name: copy)
    with pytest.raises(DataMismatch, match="is not the shipped one"):
        describe_embedded("tiny_llama")


def test_small_helpers() -> None:
    assert default_device() in ("cpu", "cuda")
    assert [resolve_dtype(*pair) for pair in (("auto", "cpu"), ("auto", "cuda:0"), ("float16", "cpu"))] == [
        "float32",
        "bfloat16",
        "float16",
    ]
    assert free_memory("cpu") > 1e6


def test_a_hub_model_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataUnavailable, match="HF_HUB_OFFLINE is set; fetch it where there is a network"):
        describe_hub("some/model")
    with pytest.raises(DataUnavailable, match=r"model\.id=a/b/c: not found"):
        describe_hub("a/b/c")
    with pytest.raises(ConfigError, match=r"needs model\.id=owner/name"):
        describe_hub("")


def _answer(status: int) -> Any:
    import httpx

    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/some/model"))


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("GatedRepoError", 403, r"access is not granted; ask for it at https://huggingface\.co/some/model"),
        ("RepositoryNotFoundError", 404, r"model\.id=some/model: not found on the hub, or private"),
        ("RevisionNotFoundError", 404, r"model\.revision=v9: some/model has no such revision"),
        ("RemoteEntryNotFoundError", 404, r"no config\.json there"),
        ("HfHubHTTPError", 503, "the hub answered with status 503"),
    ],
)
def test_each_refusal_of_the_hub_is_one_line(
    monkeypatch: pytest.MonkeyPatch, kind: str, status: int, words: str
) -> None:
    import huggingface_hub.errors as errors

    def refuse(*_args: Any, **_options: Any) -> None:
        raise getattr(errors, kind)("first line\nsecond line", response=_answer(status))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(ConfigError, match=words) as caught:  # DataUnavailable is one
        describe_hub("some/model", "v9")
    assert "\n" not in str(caught.value)


def _cached(clean: Path, cache: Path, commit: str) -> None:
    """A hub cache that holds `clean` as some/model at branch main."""
    repo = cache / "models--some--model"
    shutil.copytree(clean, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)


def test_a_cached_hub_model_is_pinned_to_its_commit_and_loads_offline(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    _cached(clean, tmp_path, commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    info = describe_hub("some/model")
    assert (info.identity, info.label, info.source) == (f"some/model@{commit}", "model", "hub")
    own, original = load_cpu(info), load_cpu(describe_local(str(clean)))
    assert torch.equal(own.module.lm_head.weight, original.module.lm_head.weight)
