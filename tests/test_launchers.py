"""Launchers: a misspelt key and a lacking library are one line; ours replace the plug-ins' of the same name."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from biaslab import launchers
from biaslab.errors import ConfigError
from biaslab.launchers import thread_share
from biaslab.launchers.ray import _knock
from tests.cli.run import biaslab


def test_a_misspelt_launcher_key_is_named(tmp_path: Path) -> None:
    ended = biaslab(tmp_path, "-m", "hydra/launcher=slurm", "hydra.launcher.partitoin=x", "accel=none")
    assert ended.code == 2, ended
    assert "hydra.launcher.partitoin: no such key (did you mean partition?)" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("choice", ["slurm", "ray", "joblib"])
def test_a_launcher_without_m_is_refused_before_anything_runs(tmp_path: Path, choice: str) -> None:
    ended = biaslab(tmp_path, f"hydra/launcher={choice}", "accel=none", "benchmark=planted", "limit=4")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert f"hydra/launcher={choice}: launches only what is typed with -m; add it: " in ended.err
    assert f"python -m biaslab -m hydra/launcher={choice} accel=none benchmark=planted limit=4" in ended.err
    assert not list(tmp_path.rglob("sweep.json"))


@pytest.mark.parametrize("name", ["SlurmLauncher", "RayLauncher", "JoblibLauncher"])
def test_a_lacking_library_is_said_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(launchers, "find_spec", lambda _: None)
    extra = launchers.LAUNCHERS[name][2]
    with pytest.raises(ConfigError, match=rf"hydra/launcher={extra}: needs the extra .* 'biaslab\[{extra}\]'"):
        launchers.register_launchers(f"hydra_plugins.biaslab.{name}")


@pytest.mark.parametrize("target", ["", "hydra._internal.core_plugins.basic_launcher.BasicLauncher", "os.system"])
def test_what_is_not_ours_is_left_alone(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setattr(launchers, "import_module", lambda name: pytest.fail(f"imported {name}"))
    launchers.register_launchers(target)


@pytest.mark.parametrize(("n_jobs", "share"), [(1, "6"), (2, "3"), (4, "1"), (100, "1"), (-1, "1")])
def test_workers_of_one_machine_share_its_processors(monkeypatch: pytest.MonkeyPatch, n_jobs: int, share: str) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    assert thread_share(n_jobs) == {"OMP_NUM_THREADS": share, "RAYON_NUM_THREADS": share}


def test_a_worker_of_the_pool_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    loky = pytest.importorskip("joblib.externals.loky", reason="needs joblib")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pool = loky.get_reusable_executor(max_workers=1, kill_workers=True, env={**thread_share(1), "OMP_NUM_THREADS": "7"})
    try:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result(timeout=120) == "7"
    finally:
        pool.shutdown(kill_workers=True)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nothing_listens_is_known_at_once(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        _knock(form.format(port))
    with pytest.raises(ConnectionRefusedError):
        _knock(form.format(port))
    for elsewhere in (None, "local"):  # Ray's own to find
        _knock(elsewhere)


@pytest.mark.parametrize("how", ["RAY_ADDRESS", "RAY_TMPDIR"])
def test_a_cluster_that_ended_without_a_word_is_not_asked_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address + "\n")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv(how, address if how == "RAY_ADDRESS" else str(tmp_path))
        _knock("auto")
    with pytest.raises(ConnectionRefusedError):
        _knock("auto")


def test_a_worker_that_cannot_see_the_folder_says_which_and_what_to_do(tmp_path: Path) -> None:
    work = launchers.Work(None, None, None, (), 0, {}, str(tmp_path / "not here"))
    with pytest.raises(ConfigError, match=r"not here: not to be entered on .*; type the line in a folder that all"):
        work()


def test_hydra_finds_a_registered_launcher_by_its_name() -> None:
    pytest.importorskip("joblib", reason="needs joblib")
    from hydra.core.plugins import Plugins
    from hydra.utils import get_class

    launchers.register_launchers("hydra_plugins.biaslab.JoblibLauncher")
    found = get_class("hydra_plugins.biaslab.JoblibLauncher")
    assert Plugins.instance().class_name_to_class["hydra_plugins.biaslab.JoblibLauncher"] is found
