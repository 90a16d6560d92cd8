"""Which tracker a line gets, from its config, the environment and the login alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from biaslab.tracking.base import NoTracker, TrackerConfig, logged_in, make_tracker, resolve_mode


@pytest.mark.parametrize(
    ("name", "mode", "env", "hub", "expected"),
    [
        ("auto", "auto", {}, False, "none"),  # a newcomer on an embedded model: nothing, and no word
        ("auto", "auto", {}, True, "offline"),  # a hub model is no first try: keep the runs for a later sync
        ("auto", "auto", {"WANDB_API_KEY": "k"}, False, "online"),
        ("auto", "auto", {"WANDB_MODE": "offline"}, False, "offline"),
        ("auto", "auto", {"WANDB_MODE": "offline", "WANDB_API_KEY": "k"}, True, "offline"),
        ("auto", "auto", {"WANDB_MODE": "disabled", "WANDB_API_KEY": "k"}, True, "none"),
        ("wandb", "auto", {}, False, "offline"),
        ("wandb", "auto", {"WANDB_API_KEY": "k"}, False, "online"),
        ("wandb", "offline", {"WANDB_API_KEY": "k"}, False, "offline"),
        ("wandb", "online", {}, False, "online"),
        ("none", "online", {"WANDB_API_KEY": "k", "WANDB_MODE": "online"}, True, "none"),
    ],
)
def test_mode(tmp_path: Path, name: str, mode: str, env: dict[str, str], hub: bool, expected: str) -> None:
    assert resolve_mode(TrackerConfig(name=name, mode=mode), env | {"HOME": str(tmp_path)}, hub=hub) == expected


def test_a_login_is_found_where_wandb_keeps_it(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert not logged_in(home)
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password " + "0" * 40 + "\n")
    assert logged_in(home)
    assert not logged_in(home | {"WANDB_BASE_URL": "https://other.example"})
    assert not logged_in({"HOME": str(tmp_path), "NETRC": str(tmp_path / "absent")})
    (tmp_path / ".netrc").write_text("not a netrc file {")
    assert not logged_in(home)


def test_wandb_itself_finds_the_same_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the library's own reader of the same file."""
    from wandb.sdk.lib.wbauth.wbnetrc import read_netrc_auth

    path = tmp_path / ".netrc"
    path.write_text("machine api.wandb.ai\n  login user\n  password " + "0" * 40 + "\n")
    monkeypatch.setenv("NETRC", str(path))
    assert read_netrc_auth(host="https://api.wandb.ai") == "0" * 40
    assert logged_in({"NETRC": str(path)})


def test_no_tracker_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = make_tracker(TrackerConfig(), tmp_path, tmp_path, hub=True)
    assert isinstance(tracker, NoTracker)
    tracker.cell(tmp_path)
    assert tracker.finish(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []
