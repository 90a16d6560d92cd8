"""Models of the Hugging Face hub: a revision resolved to a commit, and the hub's errors in one line each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from biaslab.errors import BiaslabError, ConfigError, DataUnavailable
from biaslab.models.base import ModelInfo
from biaslab.models.folders import read_config, safe_label


def describe_hub(repo_id: str, revision: str = "main", name: str = "", *, trust_remote_code: bool = False) -> ModelInfo:
    """A model of the hub, its revision resolved to a commit; only config.json is fetched.

    Raises DataUnavailable: not found, access not granted, or offline and not on this machine;
    ConfigError: no causal language model, or one that needs code of its own.
    """
    from huggingface_hub import hf_hub_download

    asked = f"model.id={repo_id}"
    if not repo_id:
        raise ConfigError("model=hub needs model.id=owner/name")
    with hub_errors(repo_id, revision):
        path = Path(hf_hub_download(repo_id, "config.json", revision=revision))
    config = read_config(path, asked, trust_remote_code)
    return ModelInfo(
        label=name or safe_label(repo_id.rsplit("/", 1)[-1]),
        source="hub",
        identity=f"{repo_id}@{path.parent.name}",  # the cache's folder is snapshots/<commit>
        path=repo_id,
        architecture=str(config["architectures"][0]),
        config=config,
    )


@contextmanager
def hub_errors(repo_id: str, revision: str) -> Iterator[None]:
    """Turn the hub's errors, also those that transformers wraps, into DataUnavailable or ConfigError."""
    try:
        yield
    except (OSError, ValueError) as error:
        causes = [error.__cause__, error.__context__]
        for found in (error, *(cause for cause in causes if isinstance(cause, Exception))):
            if (told := _explain(found, repo_id, revision)) is not None:
                raise told from error
        raise


def _explain(error: Exception, repo_id: str, revision: str) -> BiaslabError | None:
    """One line for an error of huggingface_hub, None for any other."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return DataUnavailable(
            f"{repo_id}: access is not granted; ask for it at https://huggingface.co/{repo_id}, then log in "
            "with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return DataUnavailable(f"model.revision={revision}: {repo_id} has no such revision")
    if isinstance(error, (hub.RepositoryNotFoundError, hub.HFValidationError)):
        return DataUnavailable(
            f"model.id={repo_id}: not found on the hub, or private; check the spelling, or log in with `hf auth login`"
        )
    if isinstance(error, (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled)):
        return _offline(repo_id)
    if isinstance(error, hub.EntryNotFoundError):
        return ConfigError(f"model.id={repo_id}: no config.json there, so it is no transformers model")
    if isinstance(error, hub.HfHubHTTPError):
        return DataUnavailable(f"{repo_id}: the hub answered with status {error.response.status_code}; try again later")
    return None


def _offline(repo_id: str) -> DataUnavailable:
    forced = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    why = "HF_HUB_OFFLINE is set" if forced else "the hub cannot be reached"
    return DataUnavailable(
        f"{repo_id}: not on this machine and {why}; fetch it where there is a network "
        f"(`hf download {repo_id}`), or use model=local model.path=DIR, or an embedded model "
        "(model=tiny_llama)"
    )
