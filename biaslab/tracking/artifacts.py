"""The artifacts that tie a sweep's runs together: model -> accelerated model -> records -> report.

An artifact's content follows from its cell alone, so whoever uses it builds it again, byte for byte, and
the server meets the same digest under the same name: it is stored once. No weights are sent: a model is
its hub id and commit, or the hash of its files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HUB = "https://huggingface.co"
LONGEST_NAME = 128  # W&B's limit of an artifact's name


def model_artifact(cell: Mapping[str, Any]) -> Any:
    """The untouched model of a cell: what names its very weights."""
    model = dict(cell["model"])
    artifact = _described(artifact_name("model", model["label"]), "model", "model.json", model, {})
    repo_id, _, commit = str(model["identity"]).partition("@")
    if model["source"] == "hub" and commit:  # a link for the reader; nothing is fetched or hashed
        artifact.add_reference(f"{HUB}/{repo_id}/tree/{commit}", name="hub", checksum=False)
    return artifact


def accelerated_artifact(cell: Mapping[str, Any]) -> Any:
    """The accelerated model of a cell: model, steps and their config in the file, what they achieved as metadata."""
    arm = arm_identity(cell)
    metadata = {"facts": cell["accel"]["facts"], "active": cell["active"], "config_sha256": digest_of(arm)}
    name = artifact_name("accelerated", cell["model"]["label"], cell["accel"]["label"])
    return _described(name, "accelerated-model", "accelerated.json", arm, metadata)


def records_artifact(folder: Path, cell: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """What was measured in a cell: cell.json and records.parquet, or word of them where they are too large."""
    import wandb

    artifact = wandb.Artifact(f"cell-{cell['key'][:16]}", "records", metadata=_plain(cell["identity"]))
    files = [folder / "cell.json", folder / "records.parquet"]
    if reason := too_large(files, settings):
        _write(artifact, "left_out.json", {"reason": reason, "sha256": {p.name: _file_hash(p) for p in files}})
        return artifact
    for path in files:  # a complete cell's files never change: they are sent from where they are, not copied first
        artifact.add_file(str(path), name=path.name, policy="immutable")
    return artifact


def report_artifact(folder: Path, settings: Mapping[str, Any]) -> Any:
    """All files of a report's folder, or word of them where they are too large."""
    import wandb

    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    artifact = wandb.Artifact(artifact_name("report", settings["sweep"]), "report")
    if reason := too_large(files, settings):
        _write(artifact, "left_out.json", {"reason": reason, "sha256": {p.name: _file_hash(p) for p in files}})
        return artifact
    for path in files:
        artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
    return artifact


def use(run: Any, artifact: Any) -> None:
    """Put it on record in an offline run that it took the artifact as its input.

    `run.use_artifact` refuses offline. For an artifact that is not on the server yet it does, online, what is
    done here: the record says "save this for nobody, then mark it as used by the run", and the sync obeys.
    """
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def artifact_name(*words: str) -> str:
    """Words as a name that W&B takes; where that loses a difference, a hash keeps it."""
    whole = "-".join(words)
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", whole)
    if plain == whole and len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[: LONGEST_NAME - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def arm_identity(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the weights that were asked: the model, the accelerator's steps with their config, the dtype."""
    identity = cell["identity"]
    return {"model": identity["model"], "accel": cell["accel"]["steps"], "dtype": identity["dtype"]}


def digest_of(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a mapping, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def too_large(files: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """Why files are left out of an artifact, or ""."""
    size, limit = sum(path.stat().st_size for path in files) / 2**20, settings["artifact_mib"]
    return f"left out: {size:.1f} MiB, limit {limit:g}" if size > limit else ""


def _described(name: str, kind: str, file: str, content: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
    import wandb

    artifact = wandb.Artifact(name, kind, metadata=_plain({**content, **metadata}))
    _write(artifact, file, content)
    return artifact


def _write(artifact: Any, name: str, content: Mapping[str, Any]) -> None:
    with artifact.new_file(name) as handle:
        json.dump(content, handle, indent=1, sort_keys=True)


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON holds it: W&B's metadata takes nothing else."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
