"""`doctor` says what works by trying it: each state from a machine that is really in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biaslab import doctor as module
from biaslab import verbs
from biaslab.accel.hqq import Hqq
from biaslab.config import conf_dir
from biaslab.doctor import Finding, doctor
from biaslab.errors import ConfigError
from tests.models.hub_server import Hub, serve

TOKEN = "hf_" + "t" * 34


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three accelerators, in an empty folder."""
    paths = [(name, conf_dir() / "accel" / f"{name}.yaml") for name in ("ao_fp8", "hqq4", "none")]
    monkeypatch.setattr(verbs, "choices", lambda group: iter(paths))
    monkeypatch.chdir(tmp_path)


def states(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_everything_that_can_work_here_works(few: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert doctor([]) == 0
    out = capsys.readouterr().out
    assert [line.rstrip(":") for line in out.splitlines() if line.endswith(":")] == [
        title for title, _ in module.SECTIONS
    ]
    assert "ok    hqq4               applied to tiny_llama and asked in" in out
    assert "no    ao_fp8" in out
    assert "needs a GPU" in out
    assert "HF_HUB_OFFLINE is set" in out
    assert out.splitlines()[-1] == "all that can work here works"
    assert list(tmp_path.iterdir()) == []


def test_what_takes_something_of_yours_says_what_and_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [(name, conf_dir() / "accel" / f"{name}.yaml") for name in ("custom", "prequantized")]
    monkeypatch.setattr(verbs, "choices", lambda group: iter(paths))
    monkeypatch.chdir(tmp_path)
    found = {finding.name: finding for finding in module._accelerators()}
    assert {finding.state for finding in found.values()} == {"own"}
    assert found["custom"].text == (
        "not tried: a class of your own; name it with accel.custom.target=package.module.Class"
    )
    assert "accel.prequantized.path=DIR (or accel.prequantized.id=OWNER/NAME)" in found["prequantized"].text
    assert "model=hub" not in found["prequantized"].text


def test_list_says_what_must_be_fetched_or_given_and_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(*_args: Any, **_more: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", nobody)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(verbs, "_cached", lambda repo: repo.endswith("pythia-160m"))
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("BIASLAB_DATA_DIR", raising=False)
    assert verbs.list_choices([]) == 0
    legend, more, *lines = capsys.readouterr().out.splitlines()
    assert legend.startswith("ok: runs here as it is; no: cannot run here, and why; own: needs something of yours")
    assert more.startswith("get: fetched on first use, if its site can be reached")
    states: dict[str, dict[str, str]] = {}
    for line in lines:
        if not line.startswith(" "):
            group = states.setdefault(line, {})
        else:
            group[line.split()[0]] = line.split()[1]
    expected = {"llama": "get", "pythia": "ok", "tiny_llama": "ok", "hub": "own", "local": "own", "custom": "own"}
    assert expected.items() <= states["model="].items()
    assert {"custom": "own", "prequantized": "own", "hqq4": "ok", "ao_fp8": "no"}.items() <= states["accel="].items()
    wanted = {"bbq": "get", "planted": "ok", "pairs": "own", "choices": "own", "prompts": "own", "custom": "own"}
    assert wanted.items() <= states["benchmark="].items()


def test_an_accelerator_that_breaks_is_a_failure(
    few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_args: Any) -> None:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(Hqq, "apply", broken)
    assert doctor([]) == 3
    out = capsys.readouterr().out
    assert "FAIL  hqq4               RuntimeError: no kernel image is available" in out
    assert out.splitlines()[-1] == "1 things that should work here do not"


def on_hub(monkeypatch: pytest.MonkeyPatch, hub: Hub, token: str) -> dict[str, str]:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    return states(module._hub())


def test_the_hub_and_the_login_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as hub:
        assert on_hub(monkeypatch, hub, "") == {"cache": "ok", "hub": "ok", "login": "no"}
        assert on_hub(monkeypatch, hub, TOKEN)["login"] == "FAIL"  # this hub knows nobody
        refusal = next(f for f in module._hub() if f.name == "login")
        assert TOKEN not in refusal.text
        hub.users[TOKEN] = "somebody"
        assert on_hub(monkeypatch, hub, TOKEN)["login"] == "ok"
    assert on_hub(monkeypatch, hub, TOKEN)["hub"] == "no"  # gone


def test_the_tracker_is_told_for_both_kinds_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    found = list(module._tracker())
    assert all(
        "logged in at https://api.wandb.ai; runs of" in f.text and f.text.endswith("sent as they end") for f in found
    )
    assert not any("0" * 40 in f.text for f in found)


def test_a_folder_that_cannot_be_written_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert states(module._disk())["outputs"] == "ok"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert states(module._disk())["outputs"] == "FAIL"


def test_it_takes_no_arguments() -> None:
    with pytest.raises(ConfigError, match="doctor everything: takes no arguments"):
        doctor(["everything"])
