from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from biaslab.benchmarks import sources
from biaslab.benchmarks.sources import PinnedFile, data_sha256, hashes, is_here, locate
from biaslab.errors import DataMismatch, DataUnavailable

CONTENT = b"a,b\n1,2\n"
FILE = PinnedFile("benchmarks/x/x.csv", "owner/name", "c" * 40, "x.csv", hashlib.sha256(CONTENT).hexdigest(), "MIT")


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASLAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BIASLAB_DATA_DIR", raising=False)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on loopback in the place of the repository."""
    root = tmp_path / "served"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setattr(PinnedFile, "url", property(lambda f: f"http://127.0.0.1:{httpd.server_port}/{f.path}"))
        yield root
        httpd.shutdown()


def test_downloaded_once_checked_and_kept(server: Path) -> None:
    (server / "x.csv").write_bytes(CONTENT)
    assert not is_here(FILE)
    path = locate(FILE)
    assert path.read_bytes() == CONTENT
    (server / "x.csv").unlink()
    assert locate(FILE) == path
    assert is_here(FILE)


def test_a_download_with_other_bytes_is_refused_and_not_kept(server: Path) -> None:
    (server / "x.csv").write_bytes(CONTENT[:-3])
    with pytest.raises(DataMismatch, match="is not the pinned"):
        locate(FILE)
    assert not is_here(FILE)
    assert list((sources.cache_dir() / "benchmarks/x").glob("*.part")) == []


def test_no_network_and_no_folder_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PinnedFile, "url", property(lambda f: "http://127.0.0.1:9/x.csv"))
    with pytest.raises(DataUnavailable, match=r"x\.csv: not here, and http.* put the file at .*x\.csv by hand"):
        locate(FILE)


def test_the_data_folder_comes_first_and_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data" / FILE.local
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    monkeypatch.setenv("BIASLAB_DATA_DIR", str(tmp_path / "data"))
    assert locate(FILE) == path
    path.write_bytes(CONTENT + b"3,4\n")
    with pytest.raises(DataMismatch, match="fix BIASLAB_DATA_DIR"):
        locate(FILE)


def test_the_pinned_url_names_the_commit() -> None:
    assert FILE.url == f"https://raw.githubusercontent.com/owner/name/{'c' * 40}/x.csv"


def test_a_file_known_by_its_git_id_alone_is_checked_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = "6bbcd3ee3dc9c2b4ba1d2dcc1a1d6b8b7d5c9f8e"
    file = PinnedFile("x.csv", "owner/name", "c" * 40, "x.csv", "", "MIT", git_blob=blob)
    monkeypatch.setenv("BIASLAB_DATA_DIR", str(tmp_path))
    (tmp_path / "x.csv").write_bytes(b"hello\n")
    with pytest.raises(DataMismatch, match=r"git blob ce013625030b\.\.\. is not the pinned 6bbcd3ee3dc9"):
        locate(file)
    # What `git hash-object` prints for these six bytes.
    right = PinnedFile("x.csv", "owner/name", "c" * 40, "x.csv", "", "MIT", "ce013625030ba8dba906f756967f9e9ca394464a")
    assert locate(right) == tmp_path / "x.csv"
    assert hashes(tmp_path / "x.csv")[0] == hashlib.sha256(b"hello\n").hexdigest()


def test_the_hash_of_several_files_changes_with_bytes_and_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIASLAB_DATA_DIR", str(tmp_path))

    def pin(name: str, content: bytes) -> PinnedFile:
        (tmp_path / name).write_bytes(content)
        return PinnedFile(name, "owner/name", "c" * 40, name, hashlib.sha256(content).hexdigest(), "MIT")

    a, b = pin("a", b"1"), pin("b", b"2")
    assert data_sha256([a, b]) == data_sha256([a, b]) != data_sha256([b, a])
    before = data_sha256([a, b])
    assert data_sha256([pin("a", b"3"), b]) != before
    with pytest.raises(DataMismatch):
        data_sha256([a, b])
