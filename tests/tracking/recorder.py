"""A recorder of the W&B upload protocol on loopback: what `wandb sync` and the client send, by run and artifact.

    with serve() as server:
        subprocess.run(..., env=os.environ | server.env())
        server.runs["biaslab/<id>"].summary

An operation it does not know is answered with an error and kept in `unknown`. `status` makes it answer every
request with that status, `delay_s` late, and `refuse_key` as the real server answers a wrong key.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlparse

KEY = "0" * 40
STREAM = re.compile(r"/files/(?:[^/]+/)?([^/]+)/([^/]+)/file_stream")
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


@dataclass
class Run:
    """One run as the server came to know it."""

    name: str
    project: str
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    exit_code: int | None = None


@dataclass
class Artifact:
    """One artifact: its files by name, and whether it was committed."""

    name: str
    kind: str
    run: str
    digest: str
    client_id: str
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    committed: bool = False


@dataclass
class Recorder:
    """The server's state, address and moods."""

    entity: str = "tester"
    url: str = ""
    status: int = 0
    delay_s: float = 0.0
    refuse_key: bool = False
    runs: dict[str, Run] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    n_requests: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def env(self, **more: str) -> dict[str, str]:
        """Environment of a process that is logged in here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"} | more

    def run(self, project: str, name: str) -> Run:
        """The run of this name, made when first met."""
        return self.runs.setdefault(f"{project}/{name}", Run(name, project))


class Operations:
    """The GraphQL operations, one method each, named as W&B names them; each returns what goes under `data`."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    # The names are W&B's own.
    def Viewer(self, _asked: dict[str, Any]) -> dict[str, Any]:
        name = self.recorder.entity
        return {"viewer": {"id": "u", "entity": name, "username": name, "email": "", "flags": "{}", "admin": False,
                           "teams": {"edges": [{"node": {"name": name}}]}}}  # fmt: skip

    def ServerFeaturesQuery(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def ServerInfo(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "latestLocalVersionInfo": None}}

    def OrganizationCoreWeaveOrganizationID(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:
        entity = {"id": "e", "name": self.recorder.entity}
        return {"model": {"id": "p", "name": asked.get("project"), "entity": entity, "bucket": None}}

    def UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.recorder.run(asked.get("project") or "uncategorized", asked["name"])
        run.group = asked.get("groupName") or run.group
        run.job_type = asked.get("jobType") or run.job_type
        run.display_name = asked.get("displayName") or run.display_name
        run.tags = asked.get("tags") or run.tags
        run.config |= json.loads(asked.get("config") or "{}")
        run.summary |= json.loads(asked.get("summaryMetrics") or "{}")
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": self.recorder.entity}}
        bucket: dict[str, Any] = {
            "id": f"run-{run.name}",
            "name": run.name,
            "displayName": run.display_name,
            "description": None,
        }
        bucket |= {"config": json.dumps(run.config), "sweepName": None, "historyLineCount": 0, "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def RunStoppedStatus(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    def CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        base = f"{self.recorder.url}/put/run/{asked['project']}/{asked['run']}"
        files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": f"run-{asked['run']}", "uploadHeaders": [], "files": files}}

    def MarkRunFilesUploaded(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def CreateArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        key = base64.b64encode(f"Artifact:{len(self.recorder.artifacts)}".encode()).decode()
        self.recorder.artifacts[key] = Artifact(
            asked["artifactCollectionName"],
            asked["artifactTypeName"],
            asked["runName"],
            asked["digest"],
            asked["clientID"],
        )
        made = {"id": key, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": made}}

    def CreateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"createArtifactManifest": {"artifactManifest": self._manifest(asked["artifactID"], asked)}}

    def UpdateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(asked["artifactManifestID"], asked)}}

    def _manifest(self, key: str, asked: dict[str, Any]) -> dict[str, Any]:
        file: dict[str, Any] = {"id": key}
        if asked.get("includeUpload"):
            file |= {"uploadUrl": f"{self.recorder.url}/put/manifest/{key}", "uploadHeaders": []}
        return {"id": key, "file": file}

    def CreateArtifactFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in asked["artifactFiles"]:
            key, name = spec["artifactID"], spec["name"]
            edges.append({"node": {"id": f"{key}:{name}", "name": name, "displayName": name, "storagePath": name,
                                   "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": key},
                                   "uploadUrl": f"{self.recorder.url}/put/artifact/{key}/{name}"}})  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def CommitArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        artifact = self.recorder.artifacts[asked["artifactID"]]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": artifact.digest}}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    recorder: ClassVar[Recorder]

    def log_message(self, *_args: Any) -> None:
        return None

    def do_GET(self) -> None:
        self._body()
        if not self._moody():
            self._send({})

    def do_PUT(self) -> None:
        data, path = self._body(), unquote(urlparse(self.path).path)
        if self._moody():
            return
        kind, rest = path.removeprefix("/put/").split("/", 1)
        with self.recorder.lock:
            if kind == "run":
                project, name, file = rest.split("/", 2)
                self.recorder.run(project, name).files[file] = data
            elif kind == "artifact":
                key, file = rest.split("/", 1)
                self.recorder.artifacts[key].files[file] = data
            else:
                self.recorder.artifacts[rest].manifest = json.loads(data)
        self._send({})

    def do_POST(self) -> None:
        data, path = self._body(), urlparse(self.path).path
        if self._moody():
            return
        with self.recorder.lock:
            if (stream := STREAM.fullmatch(path)) is not None:
                self._stream(self.recorder.run(*stream.groups()), json.loads(data))
                return self._send({"exitcode": None, "limits": {}})
            if path.startswith("/sdk/otel/"):  # the client's own telemetry
                return self._send({}, 404)
            if path != "/graphql":
                self.recorder.unknown.append(f"POST {path}")
                return self._send({}, 404)
            return self._graphql(json.loads(data))

    def _graphql(self, asked: dict[str, Any]) -> None:
        found = OPERATION.search(asked["query"])
        name = found.group(1) if found else "?"
        operation = getattr(Operations(self.recorder), name, None)
        if operation is None or name.startswith("_"):
            self.recorder.unknown.append(name)
            return self._send({"errors": [{"message": f"no operation {name} here"}], "data": None})
        variables = asked.get("variables") or {}
        return self._send({"data": operation({**variables, **(variables.get("input") or {})})})

    def _stream(self, run: Run, message: dict[str, Any]) -> None:
        for name, chunk in (message.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                run.history |= {chunk["offset"] + i: json.loads(row) for i, row in enumerate(chunk["content"])}
            elif name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if message.get("complete"):
            run.complete, run.exit_code = True, message.get("exitcode")

    def _moody(self) -> bool:
        """Answer as the recorder's mood is; whether that was all."""
        self.recorder.n_requests += 1
        if self.recorder.delay_s:
            time.sleep(self.recorder.delay_s)
        status = 401 if self.recorder.refuse_key else self.recorder.status
        if status:
            self._send({"errors": [{"message": "user is not logged in" if status == 401 else "not well"}]}, status)
        return bool(status)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def _send(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: Any) -> None:
        return None  # a client that went away


@contextmanager
def serve(**mood: Any) -> Iterator[Recorder]:
    """A recorder at an address of its own until the block ends."""
    recorder = Recorder(**mood)
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"recorder": recorder}))
    recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
