"""Downloads against a loopback server: resumed, restarted, refused."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from biaslab.benchmarks import sources
from biaslab.benchmarks.download import fetch
from biaslab.benchmarks.sources import PinnedFile, is_here, locate
from biaslab.errors import DataMismatch, DataUnavailable
from tests.benchmarks.loopback import Served, serve

CONTENT = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture
def server() -> Iterator[Served]:
    with serve() as served:
        served.files["/x.csv"] = CONTENT
        yield served


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BIASLAB_DATA_DIR", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def hub_file(server: Served, monkeypatch: pytest.MonkeyPatch, **values: object) -> PinnedFile:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.files[f"/datasets/owner/name/resolve/{'c' * 40}/x.csv"] = CONTENT
    given = {"sha256": hashlib.sha256(CONTENT).hexdigest()} | values
    return PinnedFile("x/x.csv", "owner/name", "c" * 40, "x.csv", licence="MIT", host="hub", **given)  # type: ignore[arg-type]


def test_a_partial_file_is_continued(server: Served, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT[:1000])
    fetch(f"{server.url}/x.csv", part, "x.csv")
    assert part.read_bytes() == CONTENT
    assert server.asked == [("/x.csv", "bytes=1000-")]


def test_a_connection_that_breaks_is_taken_up_again(server: Served, tmp_path: Path) -> None:
    server.cut = 400_000
    fetch(f"{server.url}/x.csv", tmp_path / "x.part", "x.csv")
    assert (tmp_path / "x.part").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["", "bytes=400000-", "bytes=800000-"]


def test_without_progress_it_gives_up_and_keeps_what_came(server: Served, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT[:1000])
    server.cut = 0
    with pytest.raises(ConnectionError, match="only 1000 of 1024000 bytes"):
        fetch(f"{server.url}/x.csv", part, "x.csv")
    assert part.read_bytes() == CONTENT[:1000]


def test_a_server_without_ranges_starts_over(server: Served, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(b"something else")
    server.ranges = False
    fetch(f"{server.url}/x.csv", part, "x.csv")
    assert part.read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_whole_is_dropped(server: Served, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT + b"more")
    fetch(f"{server.url}/x.csv", part, "x.csv")
    assert part.read_bytes() == CONTENT


def test_not_found_is_said_at_once(server: Served, tmp_path: Path) -> None:
    with pytest.raises(HTTPError, match="404"):
        fetch(f"{server.url}/y.csv", tmp_path / "y.part", "y.csv")
    assert len(server.asked) == 1


def test_a_hub_file_comes_from_its_revision(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hub_file(server, monkeypatch)
    assert locate(file).read_bytes() == CONTENT
    assert server.asked[0][0] == f"/datasets/owner/name/resolve/{'c' * 40}/x.csv"


def test_a_missing_file_names_the_file_the_source_and_the_place(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hub_file(server, monkeypatch)
    server.files.clear()
    with pytest.raises(DataUnavailable, match=r"x/x\.csv: not here, and http.*404.* put the file at .*x\.csv by hand"):
        locate(file)


def test_offline_is_said_without_asking(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hub_file(server, monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataUnavailable, match="HF_HUB_OFFLINE"):
        locate(file)
    assert server.asked == []


def test_a_corrupt_beginning_is_fetched_anew(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hub_file(server, monkeypatch)
    folder = sources.cache_dir() / "x"
    folder.mkdir(parents=True)
    (folder / f".x.csv.{'c' * 12}.part").write_bytes(b"\xff" * 1000)
    assert locate(file).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_corrupt_bytes_are_refused_and_not_kept(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hub_file(server, monkeypatch, sha256="0" * 64)
    with pytest.raises(DataMismatch, match="is not the pinned 0000"):
        locate(file)
    assert not is_here(file)
    assert list((sources.cache_dir() / "x").glob(".*.part")) == []


def test_without_a_known_checksum_the_first_one_is_kept(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    file = hub_file(server, monkeypatch, sha256="", check=seen.append)
    path = locate(file)
    assert len(seen) == 1  # its schema was looked at before the file took its place
    note = json.loads((sources.cache_dir() / "checksums/x/x.csv.json").read_text())
    assert note["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert note["commit"] == "c" * 40
    locate(file)
    assert len(seen) == 1
    path.write_bytes(CONTENT + b"changed")
    with pytest.raises(DataMismatch, match="that was seen first"):
        locate(file)


def test_a_file_that_fails_its_check_is_not_kept(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(path: Path) -> None:
        raise DataMismatch(f"{path}: 7 rows, not 2556")

    file = hub_file(server, monkeypatch, sha256="", check=check)
    with pytest.raises(DataMismatch, match="7 rows"):
        locate(file)
    assert not is_here(file)
    assert not (sources.cache_dir() / "checksums").exists()


def _fetch(file: PinnedFile) -> int:
    return locate(file).stat().st_size


def test_two_processes_download_once(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hub_file(server, monkeypatch)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_fetch, [file, file]) == [len(CONTENT)] * 2
    assert len(server.asked) == 1
