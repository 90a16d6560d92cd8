from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from biaslab.benchmarks import sources
from biaslab.benchmarks.sources import PinnedFile, is_here, locate
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
