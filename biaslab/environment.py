"""What a cell was computed with: not part of its identity, but on record beside it."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("biaslab", "torch", "transformers", "tokenizers", "safetensors", "hqq", "numpy", "pandas", "pyarrow"),
    # Where they are installed, they make accelerators.
    *("bitsandbytes", "torchao", "llmcompressor", "compressed-tensors", "datasets"),
)


def environment(device: str, batch_tokens: int, max_batch: int) -> dict[str, Any]:
    """Device, threads, batch, versions and commit of this process."""
    import torch

    return {
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name(),
        "threads": torch.get_num_threads(),
        "batch_tokens": batch_tokens,
        "max_batch": max_batch,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        **commit(),
    }


@cache
def versions() -> dict[str, str]:
    """Installed version of each package that can change a number; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit() -> dict[str, Any]:
    """Commit of the checkout this code runs from, and whether it was changed; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        sha = _git(folder, "rev-parse", "HEAD")
        tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": sha, "dirty": bool(tracked and _git(folder, "status", "--porcelain", "--", "."))}


@cache
def processor_name() -> str:
    """The processor's model name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git(folder: Path, *args: str) -> str:
    result = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10, check=True)
    return result.stdout.strip()
