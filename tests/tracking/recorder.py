"""A recorder of the W&B upload protocol on loopback: what `wandb sync` and the client send, by run and artifact.

    with serve() as server:
        subprocess.run(..., env=os.environ | server.env())
        server.runs["biaslab/<id>"].summary

An operation it does not know is answered with an error and kept in `unknown`. `status` makes it answer every
request with that status, `delay_s` late, and `refuse_key` as the real server answers a wrong key. Artifacts of
one name are told apart by their digest, as the real server does where the client asks for it.
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
    seen: list[dict[str, Any]] = field(default_factory=list)  # every summary, the last one is `summary`
    used: list[str] = field(default_factory=list)  # names of artifacts, in the order of their use
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    exit_code: int | None = None


@dataclass
class Artifact:
    """One version of an artifact: its files by name, and whether it was committed. run : who made it, "" for nobody."""

    name: str
    kind: str
    run: str
    digest: str
    client_id: str
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    committed: bool = False


@dataclass
class View:
    """A workspace (kind "project-view") or a report (kind "runs"). saves : how often it was written."""

    id: str
    kind: str
    project: str
    name: str = ""
    display_name: str = ""
    description: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    saves: int = 0


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
    views: dict[str, View] = field(default_factory=dict)
    charts: dict[str, dict[str, Any]] = field(default_factory=dict)
    projects: set[str] = field(default_factory=set)  # beside those that runs were sent to
    refused: set[str] = field(default_factory=set)  # operations answered with an error
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

    def GetDefaultEntity(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "u", "entity": self.recorder.entity}}

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
        name, digest = asked["artifactCollectionName"], asked["digest"]
        for key, known in self.recorder.artifacts.items():
            if (known.name, known.digest) == (name, digest) and known.committed and asked["enableDigestDeduplication"]:
                known.run = known.run or asked.get("runName") or ""
                return {"createArtifact": {"artifact": self._artifact(key, "COMMITTED")}}
        key = base64.b64encode(f"Artifact:{len(self.recorder.artifacts)}".encode()).decode()
        made = Artifact(name, asked["artifactTypeName"], asked.get("runName") or "", digest, asked["clientID"])
        made.metadata = json.loads(asked.get("metadata") or "{}")
        self.recorder.artifacts[key] = made
        return {"createArtifact": {"artifact": self._artifact(key, "PENDING")}}

    def _artifact(self, key: str, state: str) -> dict[str, Any]:
        return {"id": key, "state": state, "artifactSequence": {"latestArtifact": None}}

    def UseArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.recorder.run(asked["projectName"], asked["runName"])
        name = self.recorder.artifacts[asked["artifactID"]].name
        run.used += [name] if name not in run.used else []
        return {"useArtifact": {"artifact": {"id": asked["artifactID"]}}}

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

    # Workspaces and reports.

    def GetProjects(self, asked: dict[str, Any]) -> dict[str, Any]:
        edges = [{"node": self._project(name)} for name in sorted(self._projects())]
        return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}

    def _projects(self) -> set[str]:
        return {run.project for run in self.recorder.runs.values()} | self.recorder.projects

    def _project(self, name: str) -> dict[str, Any]:
        made = "2026-01-01T00:00:00"
        return {"__typename": "Project", "id": f"p-{name}", "name": name, "entityName": self.recorder.entity,
                "createdAt": made, "isBenchmark": False, "user": None}  # fmt: skip

    def View(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._views(asked["name"], asked.get("viewType") or "runs", asked.get("viewName"))

    def ProjectViews(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._views(asked["project"], asked.get("viewType") or "runs", asked.get("viewName"))

    def _views(self, project: str, kind: str, name: str | None) -> dict[str, Any]:
        if project not in self._projects():
            return {"project": None}
        found = [view for view in self.recorder.views.values() if (view.project, view.kind) == (project, kind)]
        edges = [{"node": self._view(view), "cursor": view.id} for view in found if name in (None, view.name)]
        return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}}

    def _view(self, view: View) -> dict[str, Any]:
        project = {"id": "p", "name": view.project, "entityName": self.recorder.entity}
        return {"id": view.id, "type": view.kind, "name": view.name, "displayName": view.display_name, "user": None,
                "description": view.description, "spec": json.dumps(view.spec), "updatedAt": None,
                "createdAt": None, "project": project}  # fmt: skip

    def ProjectInternalId(self, _asked: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"id": "p", "internalId": base64.b64encode(b"ProjectInternalId:1").decode()}}

    def UpsertView2(self, asked: dict[str, Any]) -> dict[str, Any]:
        new = not asked.get("id")
        key = asked.get("id") or base64.b64encode(f"View:{len(self.recorder.views)}".encode()).decode()
        view = self.recorder.views.setdefault(key, View(key, asked["type"], asked["projectName"]))
        view.name, view.display_name = asked["name"], asked["displayName"]
        view.description, view.spec = asked.get("description") or "", json.loads(asked["spec"])
        view.saves += 1
        return {"upsertView": {"view": self._view(view), "inserted": new}}

    upsertView = UpsertView2

    def CreateCustomChart(self, asked: dict[str, Any]) -> dict[str, Any]:
        key = f"{asked['entity']}/{asked['chartName']}"
        if key in self.recorder.charts:
            raise ValueError(f"a chart {key} exists already")
        self.recorder.charts[key] = json.loads(asked["spec"])
        return {"createCustomChart": {"chart": {"id": key}}}


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
        try:
            if name in self.recorder.refused:
                raise ValueError(f"{name} is refused here")
            return self._send({"data": operation({**variables, **(variables.get("input") or {})})})
        except ValueError as error:
            return self._send({"errors": [{"message": str(error)}], "data": None})
        except LookupError as error:  # asked for otherwise than the recorder knows; dropped, it would be asked again
            self.recorder.unknown.append(f"{name}: {error!r} of {sorted(variables)}")
            return self._send({"errors": [{"message": repr(error)}], "data": None}, 400)

    def _stream(self, run: Run, message: dict[str, Any]) -> None:
        for name, chunk in (message.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                run.history |= {chunk["offset"] + i: json.loads(row) for i, row in enumerate(chunk["content"])}
            elif name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
                run.seen.append(run.summary)
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
