"""The hub's errors in one line each: what was asked, why not, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from biaslab.errors import BiaslabError, ConfigError, DataMismatch, DataUnavailable


@contextmanager
def hub_errors(repo_id: str, revision: str) -> Iterator[None]:
    """Turn the hub's errors, also those that transformers wraps, into DataUnavailable or ConfigError."""
    import httpx

    try:
        yield
    except BiaslabError:
        raise
    except (OSError, ValueError, httpx.HTTPError) as error:
        causes = [error.__cause__, error.__context__]
        for found in (error, *(cause for cause in causes if isinstance(cause, Exception))):
            if (told := _explain(found, repo_id, revision)) is not None:
                raise told from error
        raise


def _explain(error: Exception, repo_id: str, revision: str) -> BiaslabError | None:
    """One line for an error of huggingface_hub, None for any other."""
    import httpx
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
    if isinstance(error, (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, httpx.ConnectError)):
        return offline(repo_id)
    if isinstance(error, hub.EntryNotFoundError):
        return ConfigError(f"model.id={repo_id}: no config.json there, so it is no transformers model")
    if isinstance(error, hub.SafetensorsParsingError):
        return DataMismatch(f"{repo_id}: its weight files have no safetensors header; choose another revision")
    if isinstance(error, hub.HfHubHTTPError):
        return _refused(repo_id, error.response.status_code)
    if isinstance(error, httpx.HTTPError) or "Consistency check failed" in str(error):
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return DataUnavailable(
            f"{repo_id}: the download broke off ({first}); run the same line again: files that came whole stay"
        )
    return None


def _refused(repo_id: str, status: int) -> DataUnavailable:
    if status in (401, 403):
        return DataUnavailable(
            f"{repo_id}: the hub refuses access (status {status}); look at https://huggingface.co/{repo_id} whether it "
            "must be asked for, and log in with `hf auth login` or set HF_TOKEN"
        )
    return DataUnavailable(f"{repo_id}: the hub answered with status {status}; try again later")


def offline_forced() -> bool:
    """Whether HF_HUB_OFFLINE forbids asking the hub."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def offline(repo_id: str) -> DataUnavailable:
    """The error for a model that is not here and cannot be fetched."""
    why = "HF_HUB_OFFLINE is set" if offline_forced() else "the hub cannot be reached"
    return DataUnavailable(
        f"{repo_id}: not on this machine and {why}; fetch it where there is a network "
        f"(`hf download {repo_id}`), or use model=local model.path=DIR, or an embedded model "
        "(model=tiny_llama)"
    )
