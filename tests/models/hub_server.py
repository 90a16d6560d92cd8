"""A small Hugging Face hub on loopback: the file protocol as huggingface_hub speaks it, and its ways to fail.

    with serve() as hub:
        repo = hub.add("owner/name", folder)
        subprocess.run(..., env=os.environ | hub.env(cache))

Weights are answered as the hub answers files in large storage: by a redirect that carries their hash, to a
place that serves byte ranges. Whatever is asked that this server does not know is in `hub.unknown`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlparse

TOKEN = "hf_" + "t" * 34
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")


@dataclass
class Repo:
    """A repository at one commit.

    gated : only for those who send TOKEN. cut : how many answers of weights break off half way. corrupt : one
    byte of the weights differs from what their hash says. status : of every answer, if not 0.
    """

    files: dict[str, bytes]
    commit: str
    branches: tuple[str, ...] = ("main",)
    gated: bool = False
    cut: int = 0
    corrupt: bool = False
    status: int = 0

    def sha256(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    range: str


@dataclass
class Hub:
    """The server's state and address."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=dict)  # token -> name, for whoami

    def add(self, repo_id: str, folder: Path, **options: Any) -> Repo:
        """Serve the files of a folder as `repo_id`."""
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
        digest = hashlib.sha1(repr([(n, hashlib.sha256(c).hexdigest()) for n, c in files.items()]).encode())
        self.repos[repo_id] = Repo(files, digest.hexdigest(), **options)
        return self.repos[repo_id]

    def env(self, home: Path, **more: str) -> dict[str, str]:
        """Environment of a process that uses this hub and keeps its files below `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        } | more

    def sent(self, ending: str, method: str = "GET") -> list[Asked]:
        """Requests for files of this ending."""
        return [asked for asked in self.asked if asked.method == method and asked.path.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def log_message(self, *_args: Any) -> None:
        return None

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(Asked(self.command, path, self.headers.get("Range", "")))
        stored = path.startswith("/stored/")
        resolve, info = RESOLVE.fullmatch(path.removeprefix("/stored")), INFO.fullmatch(path)
        if path == "/api/agent-harnesses":  # the client library asks this for its own user agent, not for a file
            return self._error(404, "", "no such address")
        if path == "/":
            return self._json({}, body)
        if path == "/api/whoami-v2":
            return self._whoami(body)
        if not resolve and not info:
            self.hub.unknown.append(f"{self.command} {path}")
            return self._error(404, "", "no such address")
        repo_id, revision = (resolve or info).group(1), (resolve or info).group(2) or "main"  # type: ignore[union-attr]
        repo = self.hub.repos.get(repo_id)
        if refusal := self._refusal(repo, revision, is_file=resolve is not None):
            return self._error(*refusal)
        assert repo is not None
        if info:
            return self._json(self._describe(repo_id, repo), body)
        assert resolve is not None
        name = resolve.group(3)
        if name not in repo.files:
            return self._error(404, "EntryNotFound", "Entry not found", commit=repo.commit)
        if name.endswith(".safetensors") and not stored:
            return self._redirect(repo, name, f"/stored/{repo_id}/resolve/{revision}/{name}")
        return self._file(repo, name, body)

    def _whoami(self, body: bool) -> None:
        name = self.hub.users.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        return self._json({"name": name, "type": "user"}, body) if name else self._error(401, "", "Invalid token")

    def _refusal(self, repo: Repo | None, revision: str, *, is_file: bool) -> tuple[int, str, str] | None:
        if repo is None:
            return 401, "RepoNotFound", "Repository not found"
        if repo.status:
            return repo.status, "", "the server is not well"
        if revision not in (*repo.branches, repo.commit):
            return 404, "RevisionNotFound", f"Invalid rev id: {revision}"
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo.gated and is_file and token != TOKEN:
            return (403 if token else 401), "GatedRepo", "Access to this model is restricted"
        return None

    def _describe(self, repo_id: str, repo: Repo) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for name, content in repo.files.items():
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
            }
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": repo.sha256(name), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        gate = "manual" if repo.gated else False
        return {"_id": "1", "id": repo_id, "sha": repo.commit, "private": False, "gated": gate, "siblings": siblings}

    def _file(self, repo: Repo, name: str, body: bool) -> None:
        content = repo.files[name]
        if repo.corrupt and name.endswith(".safetensors"):
            content = content[:-1] + bytes([content[-1] ^ 1])
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(span.group(1)) if span else 0
        end = min(len(content), int(span.group(2)) + 1) if span and span.group(2) else len(content)
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        etag = repo.sha256(name) if name.endswith(".safetensors") else hashlib.sha1(repo.files[name]).hexdigest()
        self._headers(repo, etag)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if not body:
            return
        if repo.cut > 0 and name.endswith(".safetensors") and end == len(content):
            repo.cut -= 1
            self.wfile.write(content[start : (start + end) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(content[start:end])

    def _redirect(self, repo: Repo, name: str, target: str) -> None:
        self.send_response(302)
        self._headers(repo, "")
        self.send_header("X-Linked-Etag", f'"{repo.sha256(name)}"')
        self.send_header("X-Linked-Size", str(len(repo.files[name])))
        self.send_header("Location", f"{self.hub.url}{target}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _headers(self, repo: Repo, etag: str) -> None:
        self.send_header("X-Repo-Commit", repo.commit)
        self.send_header("Accept-Ranges", "bytes")
        if etag:
            self.send_header("ETag", f'"{etag}"')

    def _json(self, content: Any, body: bool) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _error(self, status: int, code: str, message: str, commit: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: Any) -> None:
        return None  # a client that went away


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub at an address of its own until the block ends."""
    hub = Hub()
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
