"""What a model folder tells before any weight is read: its config, what it lacks, and what identifies it.

Reads JSON and safetensors headers, and hashes files; imports neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from biaslab.errors import ConfigError
from biaslab.models.base import ModelInfo
from biaslab.models.weights import of_files

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
#: Files that decide what a model answers, besides its weights.
IDENTITY_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
)


def describe_local(path: str, name: str = "", *, trust_remote_code: bool = False) -> ModelInfo:
    """A folder that transformers can load; ConfigError says what is missing or wrong and what to do.

    name : the label; empty for the folder's own name. identity is a hash of the weights, the config and the
    tokenizer, by name and content, so a copy of a folder is the same model.
    """
    asked = f"model.path={path}"
    if not path:
        raise ConfigError("model=local needs model.path=DIR, a folder with config.json, weights and tokenizer")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{asked}: no such folder")
    config = read_config(folder / "config.json", asked, trust_remote_code)
    weights = _weights(folder, asked)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ConfigError(
            f"{asked}: no tokenizer there ({' or '.join(TOKENIZER_FILES[:2])}); save the model's own beside its weights"
        )
    return ModelInfo(
        label=name or safe_label(folder.resolve().name),
        source="local",
        identity=_identity(folder, weights),
        path=str(folder),
        architecture=str(config["architectures"][0]),
        config=config,
        weights=of_files(weights, config),
    )


def read_config(path: Path, asked: str, trust_remote_code: bool) -> dict[str, Any]:
    """config.json of a causal language model; `asked` is how the user named it, for ConfigError's line."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{asked}: no config.json there, so it is no transformers model folder") from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{asked}: config.json cannot be read ({error}); fetch it again") from error
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list) or not names:
        raise ConfigError(f"{asked}: config.json names no architecture, so it is no transformers model")
    if not str(names[0]).endswith(("ForCausalLM", "LMHeadModel")):
        raise ConfigError(
            f"{asked}: {names[0]} is no causal language model; choose one with a *ForCausalLM architecture"
        )
    if not trust_remote_code and _needs_own_code(config):
        raise ConfigError(
            f"{asked}: it needs Python code that comes with the model, which biaslab does not run; read that "
            "code, and if you trust it, add model.trust_remote_code=true"
        )
    return dict(config)


def safe_label(text: str) -> str:
    """`text` as a label: what may not stand in a folder's name becomes a dash."""
    label = re.sub(r"[^A-Za-z0-9._+=,()-]+", "-", text).strip("-.")[:120]
    return label or "model"


def _needs_own_code(config: Mapping[str, Any]) -> bool:
    """Whether the model brings code (auto_map) for an architecture that transformers lacks.

    Many older checkpoints still carry the code that transformers has long had itself; without trust,
    transformers uses its own.
    """
    if not config.get("auto_map"):
        return False
    found = find_spec("transformers")  # finds it without importing it
    kind = str(config.get("model_type", "")).replace("-", "_").lower()
    if found is None or found.origin is None or not re.fullmatch(r"\w+", kind):
        return True
    return not (Path(found.origin).parent / "models" / kind / f"modeling_{kind}.py").is_file()


def _weights(folder: Path, asked: str) -> list[Path]:
    weights = sorted(folder.glob("*.safetensors"))
    _check_shards(folder, asked)
    check_files(weights)
    if weights:
        return weights
    pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickled:
        raise ConfigError(
            f"{asked}: only pickled weights there ({pickled[0]}), which can run code when they are read; "
            "convert them to safetensors where you trust them (load there, then save_pretrained(folder))"
        )
    raise ConfigError(f"{asked}: no weights there (*.safetensors)")


def _check_shards(folder: Path, asked: str) -> None:
    """ConfigError if the index names weight files that are not there."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{asked}: {index.name} cannot be read ({error}); fetch it again") from error
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise ConfigError(
            f"{asked}: {len(missing)} of {len(names)} weight files are missing, e.g. {missing[0]}; fetch them"
        )


def check_files(weights: Iterable[Path]) -> None:
    """ConfigError for the first safetensors file that is truncated or none at all."""
    for file in weights:
        _check_header(file)


def _check_header(file: Path) -> None:
    """ConfigError for a safetensors file whose size is not what its own header says."""
    size = file.stat().st_size
    try:
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length)) if 0 < length < size else {}
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise ConfigError(f"{file}: truncated or no safetensors file ({error}); fetch it again") from error
    if not entries or end != size:
        raise ConfigError(f"{file}: truncated or corrupt ({size} bytes, its header says {end}); fetch it again")


def _identity(folder: Path, weights: Iterable[Path]) -> str:
    """Hash over (name, hash of content) of the files that decide what the model answers."""
    others = [folder / name for name in IDENTITY_FILES if (folder / name).is_file()]
    digest = hashlib.sha256()
    for file in sorted([*weights, *others], key=lambda path: path.name):
        stat = file.stat()
        digest.update(f"{file.name}\0{_file_sha256(str(file), stat.st_size, stat.st_mtime_ns)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


@lru_cache(maxsize=1024)
def _file_sha256(path: str, size: int, mtime_ns: int) -> str:
    """Hash of a file's bytes; size and time are arguments so that a changed file is hashed again."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
