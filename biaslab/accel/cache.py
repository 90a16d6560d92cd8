"""Accelerated weights kept on disk, so that one calibration serves every benchmark, sweep and process.

An entry is a folder named by its key: `weights.safetensors` (every tensor of the decoder layers, codes where a
layer is packed) and `entry.json` (what it is, the Facts of its steps, the hash of the weights). The key hashes
all that decides a bit of it: the model's weights, the steps with their calibration text, dtype and kind of
device, versions of the libraries, and the source of this package. So a changed pruner never meets its old weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.accel.base import Accelerator
from biaslab.accel.layers import decoder_layers, replace
from biaslab.accel.stack import applied
from biaslab.models.base import Fact, LoadedModel

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from torch import Tensor, nn

log = logging.getLogger(__name__)

FORMAT = 1
GIB = 2**30
#: Libraries whose version may change a bit of what is kept.
LIBRARIES = ("torch", "transformers", "tokenizers", "llmcompressor", "compressed-tensors", "numpy")


@dataclass(frozen=True)
class Entry:
    """What is known of an entry without reading its weights. used : seconds since the epoch of the last hit."""

    key: str
    label: str
    size_bytes: int
    used: float
    folder: Path


class WeightCache:
    """The folder `root`, created when first written to, kept below `max_bytes` by dropping the longest unused."""

    def __init__(self, root: Path, max_bytes: float) -> None:
        self.root, self.max_bytes = Path(root), max_bytes

    def apply(self, model: LoadedModel, accels: Mapping[str, Accelerator]) -> LoadedModel:
        """As `stack.apply_stack`, but the dear steps at the stack's beginning are taken from here where they are.

        A step is kept if it and all before it are `restorable`; what is put back has the very bits that were
        computed. Two processes that need one entry compute it once: the second waits and reads.
        """
        names = list(accels)
        dear = next((i for i, name in enumerate(names) if not accels[name].restorable), len(names))
        keys = [self._key(model, [accels[name] for name in names[: i + 1]]) for i in range(dear)]
        done = next((i for i in range(dear, 0, -1) if self._restored(model, keys[i - 1], names[:i])), 0)
        for i, name in enumerate(names[done:], done):
            if i >= dear:
                model = applied(model, accels[name], name)
                continue
            with self._lock(keys[i]):
                if not self._restored(model, keys[i], names[: i + 1], locked=True):
                    model = applied(model, accels[name], name)
                    self._keep(model, keys[i], f"{model.info.label} {'+'.join(names[: i + 1])}")
        return model

    def entries(self) -> list[Entry]:
        """Every readable entry, the longest unused first."""
        found = []
        for path in self.root.glob("*/entry.json"):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                size = sum(file.stat().st_size for file in path.parent.iterdir())
                found.append(Entry(path.parent.name, str(content["label"]), size, path.stat().st_mtime, path.parent))
            except (OSError, ValueError, KeyError, TypeError):
                log.warning("%s: not a readable entry of the cache of weights", path.parent)
        return sorted(found, key=lambda entry: entry.used)

    def prune(self, max_bytes: float | None = None) -> list[Entry]:
        """Drop entries, the longest unused first, until at most `max_bytes` are left; those dropped.

        An entry that another process is reading or writing stays.
        """
        from filelock import Timeout

        for key in {path.name.split(".")[1] for path in self.root.glob(".*.*.*")}:
            with suppress(Timeout), self._lock(key, timeout=0):
                self._drop_staging(key)
        bound = self.max_bytes if max_bytes is None else max_bytes
        entries, dropped = self.entries(), []
        total = sum(entry.size_bytes for entry in entries)
        for entry in entries:
            if total <= bound:
                break
            try:
                with self._lock(entry.key, timeout=0):
                    shutil.rmtree(entry.folder, ignore_errors=True)
            except Timeout:
                continue
            total -= entry.size_bytes
            dropped.append(entry)
        return dropped

    def _drop_staging(self, key: str) -> None:
        """Remove what a writer of this entry left that was killed; only for who holds the entry's lock."""
        for left in self.root.glob(f".{key}.*"):
            shutil.rmtree(left, ignore_errors=True)

    def _key(self, model: LoadedModel, steps: Sequence[Accelerator]) -> str:
        content = {
            "format": FORMAT,
            "model": model.info.identity,
            "steps": [dict(step.identity(model.info)) for step in steps],
            "dtype": str(model.dtype),
            "device": model.device.type,
            "versions": _versions(),
            "code": _code(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def _lock(self, key: str, timeout: float = -1) -> BaseFileLock:
        from filelock import FileLock

        (self.root / ".locks").mkdir(parents=True, exist_ok=True)
        return FileLock(str(self.root / ".locks" / f"{key}.lock"), timeout=timeout)

    def _restored(self, model: LoadedModel, key: str, names: Sequence[str], *, locked: bool = False) -> bool:
        """Put the entry's weights into the model, if it is there and whole; what is damaged is dropped."""
        folder = self.root / key
        if not (folder / "entry.json").is_file():
            return False
        if not locked:
            with self._lock(key):
                return self._restored(model, key, names, locked=True)
        try:
            content, tensors = _read(folder)
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s: dropped from the cache of weights (%s)", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            return False
        _put_back(model.module, tensors, content["packed"])
        facts = [Fact(step, f["method"], f["values"]) for step, f in zip(names, content["facts"], strict=True)]
        model.facts[:] = [Fact(f.step, f.method, {**f.values, "from_cache": True}) for f in facts]
        os.utime(folder / "entry.json")
        return True

    def _keep(self, model: LoadedModel, key: str, label: str) -> None:
        """Write the entry whole or not at all; a cache that cannot be written costs a warning, not the cell."""
        from safetensors import SafetensorError  # how it says that a disk is full: no OSError
        from safetensors.torch import save_file

        tensors, packed = _state(model.module)
        if sum(t.numel() * t.element_size() for t in tensors.values()) > self.max_bytes:
            log.warning("%s: larger than the whole cache of weights (accel_cache_gib), not kept", label)
            return
        self._drop_staging(key)
        staging = self.root / f".{key}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        try:
            staging.mkdir(parents=True)
            save_file(tensors, staging / "weights.safetensors")
            entry = {
                "format": FORMAT,
                "label": label,
                "created": time.time(),
                "packed": packed,
                "facts": [dataclasses.asdict(fact) for fact in model.facts],
                "sha256": _sha256(staging / "weights.safetensors"),
            }
            (staging / "entry.json").write_text(json.dumps(entry), encoding="utf-8")
            shutil.rmtree(self.root / key, ignore_errors=True)  # what is there has lost its label
            staging.rename(self.root / key)
        except (OSError, SafetensorError) as error:
            log.warning("%s: not kept in the cache of weights (%s)", label, error)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self.prune()


def _state(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Every tensor of the decoder layers by name, and bits of each packed layer; nothing else changes."""
    prefix, _ = decoder_layers(module)
    packed = {name: int(m.bits) for name, m in module.named_modules() if _is_ours(m)}
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    tensors = {name: t.detach().cpu().contiguous() for name, t in named.items() if name.startswith(f"{prefix}.")}
    return tensors, packed


def _put_back(module: nn.Module, tensors: Mapping[str, Tensor], packed: Mapping[str, int]) -> None:
    import torch

    from biaslab.accel.modules.packed import PackedLinear

    device = next(module.parameters()).device
    for name, bits in packed.items():
        parts = {part: tensors.get(f"{name}.{part}") for part in ("W_q", "scale", "zero", "bias")}
        width = int(module.get_submodule(name).in_features)  # type: ignore[arg-type]
        layer = PackedLinear.restored(parts, width, bits)
        replace(module, name, layer.to(device).eval())
    now = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for name, value in tensors.items():
            now[name].copy_(value)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load_file

    content = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
    if content["format"] != FORMAT or content["sha256"] != _sha256(folder / "weights.safetensors"):
        raise ValueError("the weights are not those that were written")
    return content, load_file(folder / "weights.safetensors")


def _is_ours(module: nn.Module) -> bool:
    return type(module).__name__ == "PackedLinear"


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _code() -> str:
    """Hash of the source of biaslab.accel: what made the weights."""
    folder = Path(__file__).parent
    files = sorted([*folder.rglob("*.py"), folder / "calibration.txt"])
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
