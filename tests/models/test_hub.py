"""Models of the hub, over its own file protocol on loopback: pinned, resumed, refused, checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from biaslab.errors import ConfigError, DataMismatch, DataUnavailable
from biaslab.models import hub as hub_module
from biaslab.models import hub_files
from biaslab.models.hub import describe_hub
from biaslab.models.hub_files import fetch
from biaslab.models.loading import describe_local, load
from tests.cli.run import environment
from tests.models.hub_server import TOKEN, Hub, serve
from tests.models.make import make_folder

NAME = "owner/Tiny-Model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("served") / "tiny", "llama", chat=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process talks to, with an empty cache and nobody logged in."""
    with serve() as server:
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(f"{constants}.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(f"{constants}.DOWNLOAD_CHUNK_SIZE", 1024)  # what breaks off loses less than this
        monkeypatch.setattr("time.sleep", lambda _s: None)  # huggingface_hub waits a second before it resumes
        monkeypatch.delenv("HF_TOKEN", raising=False)
        hub_module._describe.cache_clear()
        hub_files._FETCHED.clear()
        yield server
        assert server.unknown == []


def weights_path(info: Any) -> Path:
    return fetch(info) / "model.safetensors"


def test_a_revision_is_pinned_to_its_commit_and_loads_as_the_folder_does(hub: Hub, folder: Path) -> None:
    repo = hub.add(NAME, folder, branches=("main", "v1"))
    info = describe_hub(NAME, "v1")
    assert (info.identity, info.label, info.source) == (f"{NAME}@{repo.commit}", "Tiny-Model", "hub")
    own = load(info, device="cpu", dtype="float32")
    local = load(describe_local(str(folder)), device="cpu", dtype="float32")
    for name, value in local.module.state_dict().items():
        assert torch.equal(own.module.state_dict()[name], value), name
    assert own.tokenizer.chat_template == local.tokenizer.chat_template
    assert describe_hub(NAME, repo.commit).identity == info.identity


def test_describing_reads_headers_and_no_weights(hub: Hub, folder: Path) -> None:
    hub.add(NAME, folder)
    info = describe_hub(NAME)
    assert info.weights == describe_local(str(folder)).weights
    assert info.weights is not None
    assert info.weights.n_floats > 25_000
    assert {asked.range for asked in hub.sent(".safetensors")} == {"bytes=0-100000"}
    assert not list((Path(hub_files.cache_dir())).rglob("*.safetensors"))


def test_one_process_asks_the_hub_once_and_sees_one_commit(hub: Hub, folder: Path) -> None:
    first = hub.add(NAME, folder)
    info = describe_hub(NAME)
    load(info, device="cpu", dtype="float32")
    n = len(hub.asked)
    first.commit = "f" * 40  # the branch moves on
    assert describe_hub(NAME) == info
    load(info, device="cpu", dtype="float32")
    assert len(hub.asked) == n


def test_only_what_transformers_reads_is_fetched(hub: Hub, folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    shutil.copytree(folder, more)
    for name in (
        "consolidated.safetensors",
        "pytorch_model.bin",
        "own.py",
        "README.md",
        "original/weights.safetensors",
    ):
        (more / name).parent.mkdir(exist_ok=True)
        (more / name).write_bytes(b"no weights")
    hub.add(NAME, more)
    snapshot = fetch(describe_hub(NAME))
    came = {p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*")}
    assert came == {p.name for p in folder.iterdir()}


def test_a_download_that_breaks_off_is_resumed_by_byte_range(hub: Hub, folder: Path) -> None:
    repo = hub.add(NAME, folder, cut=1)
    path = weights_path(describe_hub(NAME))
    assert path.read_bytes() == repo.files["model.safetensors"]
    first, again = [a.range for a in hub.sent("model.safetensors")][-2:]
    assert first == ""
    assert 0 < int(again.removeprefix("bytes=").removesuffix("-")) <= len(repo.files["model.safetensors"]) // 2


def test_after_a_download_that_was_given_up_the_next_run_fetches_only_what_is_missing(
    hub: Hub, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repo = hub.add(NAME, folder, cut=100)
    with pytest.raises(DataUnavailable, match=r"the download broke off \(.*\); run the same line again: files that"):
        fetch(describe_hub(NAME))
    assert capfd.readouterr().err == ""
    repo.cut = 0
    hub.asked.clear()
    assert weights_path(describe_hub(NAME)).read_bytes() == repo.files["model.safetensors"]
    assert {Path(a.path).name for a in hub.asked if "/resolve/" in a.path} == {"model.safetensors"}


def test_what_killed_downloads_left_is_removed_and_what_is_being_fetched_is_not(hub: Hub, folder: Path) -> None:
    from filelock import FileLock

    repo = hub.add(NAME, folder)
    info = describe_hub(NAME)
    place = hub_files._snapshot(NAME, repo.commit).parents[1]
    (place / "blobs").mkdir(parents=True, exist_ok=True)
    old, new, held = (place / "blobs" / f"{letter * 64}.0a1b2c3d.incomplete" for letter in "abc")
    for part in (old, new, held):
        part.write_bytes(b"half")
    for part in (old, held):
        os.utime(part, (1, 1))
    lock = place.parent / ".locks" / place.name / f"{'c' * 64}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        fetch(info)
    assert [part.exists() for part in (old, new, held)] == [False, True, True]


def test_a_corrupt_file_is_deleted_and_refused_and_comes_whole_the_next_time(hub: Hub, folder: Path) -> None:
    repo = hub.add(NAME, folder, corrupt=True)
    with pytest.raises(DataMismatch, match=r"model\.safetensors came corrupt \(sha256 .* it was deleted, run the same"):
        fetch(describe_hub(NAME))
    repo.corrupt = False
    assert weights_path(describe_hub(NAME)).read_bytes() == repo.files["model.safetensors"]


def test_progress_counts_every_byte_once(hub: Hub, folder: Path) -> None:
    repo = hub.add(NAME, folder, cut=1)
    begun: list[tuple[int, int]] = []
    came: list[int] = []

    def begin(n_bytes: int, n_files: int) -> Any:
        begun.append((n_bytes, n_files))
        return came.append

    fetch(describe_hub(NAME), progress=begin)
    total = sum(len(content) for name, content in repo.files.items() if name != "config.json")  # it was here already
    assert begun == [(total, len(repo.files) - 1)]
    assert sum(came) == total


def test_shards_are_those_the_index_names(hub: Hub, folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    for file in folder.glob("token*"):
        shutil.copy(file, tmp_path / "shards")
    hub.add(NAME, tmp_path / "shards")
    info = describe_hub(NAME)
    assert info.weights == describe_local(str(tmp_path / "shards")).weights
    assert len(list(fetch(info).glob("model-*.safetensors"))) > 1
    load(info, device="cpu", dtype="float32")


@pytest.mark.parametrize(("token", "status"), [("", 401), ("hf_" + "x" * 34, 403)])
def test_a_gated_model_says_how_to_get_access_and_log_in(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str, status: int
) -> None:
    hub.add(NAME, folder, gated=True)
    monkeypatch.setenv("HF_TOKEN", token)
    words = rf"{NAME}: access is not granted; ask for it at https://huggingface\.co/{NAME}, then log in with `hf auth"
    with pytest.raises(DataUnavailable, match=words) as caught:
        describe_hub(NAME)
    assert "\n" not in str(caught.value)
    assert token not in str(caught.value) or not token
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert weights_path(describe_hub(NAME)).is_file()


@pytest.mark.parametrize(
    ("asked", "revision", "words"),
    [
        ("owner/absent", "main", r"model\.id=owner/absent: not found on the hub, or private"),
        (NAME, "v9", rf"model\.revision=v9: {NAME} has no such revision"),
    ],
)
def test_what_is_not_there_is_refused_by_name(hub: Hub, folder: Path, asked: str, revision: str, words: str) -> None:
    hub.add(NAME, folder)
    with pytest.raises(DataUnavailable, match=words):
        describe_hub(asked, revision)


def test_a_hub_that_is_not_well_is_named(hub: Hub, folder: Path) -> None:
    hub.add(NAME, folder, status=503)
    with pytest.raises(DataUnavailable, match="the hub cannot be reached"):
        describe_hub(NAME)


def test_pickled_weights_are_refused(hub: Hub, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80")
    hub.add(NAME, tmp_path / "pickled")
    with pytest.raises(ConfigError, match=r"only pickled weights there \(pytorch_model\.bin\), which can run code"):
        describe_hub(NAME)
    assert hub.sent(".bin") == []


def test_code_of_a_model_is_neither_fetched_nor_run_unless_asked_by_name(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    config = json.loads((own / "config.json").read_text())
    config |= {"model_type": "own_kind", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (own / "config.json").write_text(json.dumps(config))
    (own / "own.py").write_text("raise SystemExit('the code of the model ran')")
    hub.add(NAME, own)
    with pytest.raises(ConfigError, match=r"needs Python code .* add model\.trust_remote_code=true"):
        describe_hub(NAME)
    assert hub.sent(".py") == []
    trusted = describe_hub(NAME, trust_remote_code=True)
    assert (fetch(trusted, trust_remote_code=True) / "own.py").is_file()


def test_a_full_disk_is_told_before_anything_comes(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, folder)
    info = describe_hub(NAME)
    monkeypatch.setattr(shutil, "disk_usage", lambda _p: shutil._ntuple_diskusage(10, 0, 10))  # type: ignore[attr-defined]
    with pytest.raises(DataUnavailable, match=r"GiB are to be fetched and 0\.0 GiB are free below .* set HF_HOME"):
        fetch(info)


def test_what_was_fetched_loads_offline_and_what_was_not_says_so(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, folder)
    info = describe_hub(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataUnavailable, match="not on this machine and HF_HUB_OFFLINE is set"):
        fetch(info)
    hub_module._describe.cache_clear()
    with pytest.raises(DataUnavailable, match="not on this machine and HF_HUB_OFFLINE is set"):
        describe_hub(NAME)  # its config is here, its weights are not
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    fetch(info)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub_files._FETCHED.clear()
    n = len(hub.asked)
    assert load(describe_hub(NAME), device="cpu", dtype="float32").info.identity == info.identity
    assert len(hub.asked) == n


def test_a_hub_that_went_away_leaves_what_is_here(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, folder)
    info = describe_hub(NAME)
    fetch(info)
    hub_files._FETCHED.clear()
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    assert weights_path(info).is_file()
    asked: list[str] = []
    monkeypatch.setattr(
        "huggingface_hub.file_download.get_hf_file_metadata", lambda *words, **_: asked.append(str(words))
    )
    with pytest.raises(DataUnavailable, match="not on this machine and the hub cannot be reached"):
        describe_hub("owner/other")
    assert describe_hub(NAME).identity == info.identity
    assert asked == []  # and asked again, and waited for, half a minute each time


def test_a_sweep_asks_an_absent_hub_once_for_each_model_and_says_it_in_a_line(tmp_path: Path) -> None:
    env = environment(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="0")
    words = ["-m", "model=llama,mistral", "accel=hqq4,wanda50", "tracker=none"]
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "biaslab", *words], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert time.monotonic() - begun < 60  # it was 96 s
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    assert "not on this machine and the hub cannot be reached" in done.stderr


def test_the_whole_line_over_the_hub_and_its_progress(tmp_path: Path, folder: Path) -> None:
    with serve() as server:
        repo = server.add(NAME, folder)
        code = (
            "from biaslab.models.loading import describe_hub, fetch\nfrom biaslab.console import Reporter\n"
            f"print(fetch(describe_hub({NAME!r}), progress=Reporter().fetching('tiny')).name)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(**server.env(tmp_path))
        )
    assert done.stdout.splitlines()[-1] == repo.commit, done
    assert f"tiny: fetching {len(repo.files) - 1} files" in done.stdout
    assert "100 % fetched" in done.stdout
    assert done.stderr == ""
