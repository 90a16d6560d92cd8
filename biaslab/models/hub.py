"""Models of the Hugging Face hub: a revision resolved to a commit, and what its weights need in memory."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from biaslab.errors import ConfigError
from biaslab.models import weights as sizes
from biaslab.models.base import ModelInfo
from biaslab.models.folders import read_config, safe_label
from biaslab.models.hub_errors import hub_errors, offline, offline_forced
from biaslab.models.hub_files import Silent, cache_dir, listing_of, named_weights, weight_files, without_notes
from biaslab.models.weights import Weights


def describe_hub(repo_id: str, revision: str = "main", name: str = "", *, trust_remote_code: bool = False) -> ModelInfo:
    """A model of the hub, its revision resolved to a commit; config.json and headers of the weights are fetched.

    Raises DataUnavailable: not found, access not granted, or offline and not on this machine;
    ConfigError: no causal language model, no safetensors, or one that needs code of its own.
    """
    if not repo_id:
        raise ConfigError("model=hub needs model.id=owner/name")
    config, commit, weights = _describe(repo_id, revision, trust_remote_code, cache_dir(), _endpoint())
    return ModelInfo(
        label=name or safe_label(repo_id.rsplit("/", 1)[-1]),
        source="hub",
        identity=f"{repo_id}@{commit}",
        path=repo_id,
        architecture=str(config["architectures"][0]),
        config=config,
        weights=weights,
    )


@lru_cache(maxsize=64)
def _describe(
    repo_id: str, revision: str, trust: bool, cache: str, endpoint: str
) -> tuple[Mapping[str, Any], str, Weights | None]:
    """Config, commit and weights. `cache` and `endpoint` are arguments so that another hub is another entry.

    One process asks once: all jobs of a sweep see the same commit, even if a branch moves meanwhile.
    """
    from huggingface_hub import hf_hub_download

    with hub_errors(repo_id, revision), without_notes():
        here = not offline_forced() and _silent(endpoint)  # huggingface_hub would ask again for half a minute
        path = Path(
            hf_hub_download(repo_id, "config.json", revision=revision, tqdm_class=Silent, local_files_only=here)
        )
        config = read_config(path, f"model.id={repo_id}", trust)
        commit = path.parent.name  # the cache's folder is snapshots/<commit>
        return config, commit, _weights(repo_id, commit, path.parent, config)


def _weights(repo_id: str, commit: str, folder: Path, config: Mapping[str, Any]) -> Weights | None:
    """What the weight files hold, from the files where they are here, else from their headers on the hub."""
    local = named_weights(folder)
    if local and all(file.is_file() for file in local):
        return sizes.of_files(local, config)
    if offline_forced():
        raise offline(repo_id)
    from huggingface_hub import HfApi

    listing = listing_of(repo_id, commit)
    files = weight_files(repo_id, commit, listing)
    tensors = [
        (entry.dtype, entry.parameter_count, entry.data_offsets[1] - entry.data_offsets[0])
        for file in files
        for entry in HfApi().parse_safetensors_file_metadata(repo_id, file, revision=commit).tensors.values()
    ]
    return sizes.count(tensors, sum(listing[file].size for file in files), config)


def _silent(endpoint: str) -> bool:
    """Whether nothing listens at the hub's address. With a proxy nobody can tell from here: False."""
    place = urlsplit(endpoint)
    if getproxies().get(place.scheme) or place.hostname is None:
        return False
    try:
        with socket.create_connection((place.hostname, place.port or (443 if place.scheme == "https" else 80)), 10):
            return False
    except OSError:
        return True


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
