"""From a name, a folder or a hub id to a model: first what is known without weights, then the weights.

Describing reads JSON and hashes files; it imports no torch. Loading takes safetensors only, never runs
code from a model repository unless asked to by name, and never accepts a layer the checkpoint lacks.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.errors import BiaslabError, CellFailed, ConfigError, DataUnavailable
from biaslab.models.base import LoadedModel, ModelInfo, Planted

if TYPE_CHECKING:
    import torch

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
#: Files that decide what a model answers, besides its weights.
IDENTITY_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip
DTYPES = ("float32", "bfloat16", "float16")


def describe_embedded(name: str) -> ModelInfo:
    """An embedded model with its planted truth; ConfigError lists the valid names, DataMismatch a changed file."""
    from biaslab.models import embedded

    if name not in embedded.names():
        raise ConfigError(f"model.name={name}: no such embedded model; choose one of {', '.join(embedded.names())}")
    embedded.verify(name)
    info = describe_local(str(embedded.folder(name)), name)
    truth = embedded.truth(name)
    return replace(info, source="embedded", note=embedded.note(name), planted=Planted(float(truth["scale"])))


def describe_local(path: str, name: str = "", *, trust_remote_code: bool = False) -> ModelInfo:
    """A folder transformers can load; ConfigError says what is missing and what to do."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"model.path={path}: no such folder")
    config = _config(folder / "config.json", f"model.path={path}", trust_remote_code)
    weights = _weights(folder, path)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ConfigError(f"model.path={path}: no tokenizer there ({', '.join(TOKENIZER_FILES[:2])}); save it beside the weights")
    return ModelInfo(
        label=name or safe_label(folder.resolve().name),
        source="local",
        identity=_identity(folder, weights),
        path=str(folder),
        architecture=config["architectures"][0],
        config=config,
    )


def describe_hub(
    repo_id: str, revision: str = "main", name: str = "", *, trust_remote_code: bool = False
) -> ModelInfo:
    """A model of the hub, its revision resolved to a commit; only config.json is fetched.

    Raises DataUnavailable: not found, access not granted, or offline and not cached.
    """
    from huggingface_hub import hf_hub_download

    with _hub_errors(repo_id, revision):
        path = Path(hf_hub_download(repo_id, "config.json", revision=revision))
    commit = path.parent.name  # snapshots/<commit>/config.json
    config = _config(path, f"model.id={repo_id}", trust_remote_code)
    return ModelInfo(
        label=name or safe_label(repo_id.rsplit("/", 1)[-1]),
        source="hub",
        identity=f"{repo_id}@{commit}",
        path=repo_id,
        architecture=config["architectures"][0],
        config=config,
    )


def load(
    info: ModelInfo,
    *,
    device: str,
    dtype: str,
    load_kwargs: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """The model in evaluation mode on `device`, computing in `dtype`.

    load_kwargs : of an accelerator that quantizes while loading.
    Raises CellFailed if the checkpoint lacks a layer (which would be random), is corrupt, or is not readable.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if info.source == "hub":
        where["revision"] = info.identity.rsplit("@", 1)[1]
    else:
        where["local_files_only"] = True
    with _quiet(), _hub_errors(info.path, where.get("revision", "")), _load_errors(info):
        tokenizer = AutoTokenizer.from_pretrained(info.path, **where)
        module, report = AutoModelForCausalLM.from_pretrained(
            info.path, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True,
            **{**where, **(load_kwargs or {})},
        )  # fmt: skip
    _check_report(info, report)
    module = module.to(device).eval()
    return LoadedModel(module, tokenizer, info, torch.device(device), getattr(torch, dtype))


def default_device() -> str:
    """"cuda" where a GPU is usable, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(name: str, device: str) -> str:
    """`name`, or for "auto" float32 on a CPU and bfloat16 on anything else."""
    if name != "auto":
        return name
    return "float32" if device == "cpu" else "bfloat16"


def free_memory(device: str) -> float:
    """Bytes that can still be allocated on `device`."""
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)


def safe_label(text: str) -> str:
    """`text` as a label: what may not stand in a folder's name becomes a dash."""
    label = re.sub(r"[^A-Za-z0-9._+=,()-]+", "-", text).strip("-.")[:120]
    return label or "model"


def _config(path: Path, asked: str, trust_remote_code: bool) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{asked}: no config.json there; it is no transformers model") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{asked}: config.json cannot be read ({error})") from error
    names = config.get("architectures") if isinstance(config, dict) else None
    if not names or not str(names[0]).endswith(("ForCausalLM", "LMHeadModel")):
        raise ConfigError(f"{asked}: architectures={names} is no causal language model")
    if config.get("auto_map") and not trust_remote_code:
        raise ConfigError(
            f"{asked}: it brings Python code of its own, which biaslab does not run; read it, and if you trust it, "
            "add model.trust_remote_code=true"
        )
    return dict(config)


def _weights(folder: Path, path: str) -> list[Path]:
    weights = sorted(folder.glob("*.safetensors"))
    if weights:
        for file in weights:
            _check_header(file)
        return weights
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern))
    if pickled:
        raise ConfigError(
            f"model.path={path}: only pickled weights there ({pickled[0]}), which can run code when read; "
            "convert them to safetensors (model.save_pretrained(folder) in an environment you trust)"
        )
    raise ConfigError(f"model.path={path}: no *.safetensors there")


def _check_header(file: Path) -> None:
    """ConfigError for a safetensors file that is shorter than its own header says."""
    size = file.stat().st_size
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length)) if 0 < length < size else None
        ends = [entry["data_offsets"][1] for name, entry in (header or {}).items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"{file}: not a safetensors file ({error})") from error
    if not ends or 8 + length + max(ends) != size:
        raise ConfigError(f"{file}: truncated or corrupt ({size} bytes); fetch it again")


def _identity(folder: Path, weights: list[Path]) -> str:
    digest = hashlib.sha256()
    others = [folder / name for name in IDENTITY_FILES if (folder / name).is_file()]
    for file in sorted([*weights, *others], key=lambda path: path.name):
        stat = file.stat()
        digest.update(f"{file.name}\0{_file_sha256(str(file), stat.st_size, stat.st_mtime_ns)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=1024)
def _file_sha256(path: str, size: int, mtime_ns: int) -> str:
    """Hash of a file's bytes; size and time are there so that a changed file is hashed again."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _check_report(info: ModelInfo, report: Any) -> None:
    """CellFailed if the checkpoint and the architecture do not match key by key."""
    get = report.get if isinstance(report, dict) else lambda key, default: getattr(report, key, default)
    for words, key in (("lacks", "missing_keys"), ("has, but the architecture does not,", "unexpected_keys"),
                       ("has in another shape", "mismatched_keys")):
        found = sorted(str(name) for name in get(key, ()))
        if found:
            raise CellFailed(f"{info.path}: the checkpoint {words} {len(found)} weights, e.g. {found[0]}; is it whole?")


@contextmanager
def _load_errors(info: ModelInfo) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise CellFailed(f"{info.path}: the weights cannot be read ({error}); fetch them again") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, BiaslabError):
            raise
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CellFailed(f"{info.path}: cannot be loaded ({first})") from error


@contextmanager
def _hub_errors(repo_id: str, revision: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise DataUnavailable(
            f"{repo_id}: access is not granted; ask for it at https://huggingface.co/{repo_id}, then log in with "
            "`hf auth login` or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise DataUnavailable(f"model.revision={revision}: {repo_id} has no such revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise DataUnavailable(
            f"model.id={repo_id}: not found on the hub, or private; check the spelling, or log in with `hf auth login`"
        ) from error
    except LocalEntryNotFoundError as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True", "YES", "ON")
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise DataUnavailable(
            f"{repo_id}: not on this machine and {why}; fetch it where there is a network (`hf download {repo_id}`), "
            "or use model=local model.path=DIR, or an embedded model (model=tiny_llama)"
        ) from error
    except HfHubHTTPError as error:
        raise DataUnavailable(f"{repo_id}: the hub answered {error.response.status_code}; try again later") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and notes: the errors that matter are raised."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
