"""`python -m biaslab doctor`: what works on this machine, found by trying it, each in a line.

An accelerator counts as working when it was applied to an embedded model here and every logit it gives is
finite. What cannot run says what is missing; that is no failure of the machine. Something that should work
and does not is, and the exit code is 3.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from biaslab.errors import BiaslabError, ConfigError

PACKAGES = ("biaslab", "torch", "transformers", "accelerate", "huggingface_hub", "hqq", "bitsandbytes", "torchao",
            "llmcompressor", "compressed-tensors", "wandb", "hydra-core", "pingouin")  # fmt: skip
MODEL = "tiny_llama"
HUB_TIMEOUT_S = 5.0
LINE = "  {state:5} {name:18} {text}"


@dataclass(frozen=True)
class Finding:
    """One line.

    state : "ok", "no" (not here, and why), "own" (takes something of yours), or "FAIL" (should work and does not).
    """

    state: str
    name: str
    text: str


def doctor(argv: Sequence[str]) -> int:
    """Print every section as its findings come; 3 if something that should work does not."""
    if argv:
        raise ConfigError(f"doctor {argv[0]}: takes no arguments")
    failed = 0
    for title, section in SECTIONS:
        print(f"{title}:", flush=True)
        for finding in section():
            print(LINE.format(state=finding.state, name=finding.name, text=finding.text).rstrip(), flush=True)
            failed += finding.state == "FAIL"
    print("all that can work here works" if not failed else f"{failed} things that should work here do not")
    return 3 if failed else 0


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        try:
            yield Finding("ok", name, version(name))
        except PackageNotFoundError:
            yield Finding("no", name, "not installed")


def _devices() -> Iterator[Finding]:
    import torch

    from biaslab.environment import processor_name
    from biaslab.models.placement import default_device, free_memory, machine, resolve_dtype

    memory = machine()
    for i, size in enumerate(memory.gpus):
        free = free_memory(f"cuda:{i}") / 2**30
        yield Finding("ok", f"cuda:{i}", f"{torch.cuda.get_device_name(i)}, {free:.1f} of {size / 2**30:.1f} GiB free")
    if not memory.gpus:
        yield Finding("no", "cuda", "no GPU that torch can use; models are computed on the processor")
    free = free_memory("cpu") / 2**30
    words = f"{processor_name()}, {torch.get_num_threads()} threads"
    yield Finding("ok", "cpu", f"{words}, {free:.1f} of {memory.host / 2**30:.1f} GiB free")
    device = default_device()
    yield Finding("ok", "default", f"device={device} dtype={resolve_dtype('auto', device)}")


def _accelerators() -> Iterator[Finding]:
    from biaslab.models.loading import default_device, describe_embedded, load, resolve_dtype
    from biaslab.verbs import choices, load_choice

    device, info = default_device(), describe_embedded(MODEL)
    dtype = resolve_dtype("auto", device)
    for name, path in choices("accel"):
        accel = load_choice(path)
        if accel.needs_yours:
            yield Finding("own", name, f"not tried: {accel.summary}; name it with {accel.needs_yours}")
            continue
        accel = dataclasses.replace(accel, **type(accel).test_config())
        if reason := accel.unsupported(info, device.split(":")[0]):
            yield Finding("no", name, reason)
            continue
        start = time.perf_counter()
        try:
            _try(accel, name, lambda: load(info, device=device, dtype=dtype))
        except BiaslabError as error:
            yield Finding("no", name, str(error))
        except Exception as error:  # whatever a library throws is what a user must know
            yield Finding("FAIL", name, " ".join(f"{type(error).__name__}: {error}".split())[:300])
        else:
            yield Finding("ok", name, f"applied to {MODEL} and asked in {time.perf_counter() - start:.1f} s")


def _try(accel: Any, name: str, fresh: Callable[[], Any]) -> None:
    from biaslab.accel.active import reference_logits

    reference_logits(accel.apply(fresh(), name))


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    yield Finding("ok", "cache", constants.HF_HUB_CACHE)
    if constants.HF_HUB_OFFLINE:
        yield Finding("no", "hub", "HF_HUB_OFFLINE is set: only models that are in the cache")
        return
    if (problem := _unreachable(constants.ENDPOINT)) is not None:
        yield Finding("no", "hub", f"{constants.ENDPOINT} cannot be reached ({problem}): only what is in the cache")
        return
    yield Finding("ok", "hub", f"{constants.ENDPOINT} answers")
    if get_token() is None:
        yield Finding("no", "login", "not logged in: gated models need `hf auth login` or HF_TOKEN")
    else:
        yield _login()


def _unreachable(url: str) -> str | None:
    import httpx

    try:
        httpx.head(url, timeout=HUB_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None


def _login() -> Finding:
    """Whether the hub accepts the token; the token itself is not shown."""
    import httpx
    from huggingface_hub import HfApi

    try:
        return Finding("ok", "login", f"logged in as {HfApi().whoami().get('name', '?')}")
    except (httpx.HTTPError, OSError, ValueError):
        return Finding("FAIL", "login", "the hub refuses the token: log in again with `hf auth login`")


def _tracker() -> Iterator[Finding]:
    from biaslab.tracking.base import HOST, TrackerConfig, logged_in, resolve_mode

    host = os.environ.get("WANDB_BASE_URL") or HOST
    where = f"logged in at {host}" if logged_in(os.environ) else f"not logged in at {host} (`wandb login`)"
    for words, hub in (("embedded and local models", False), ("hub models", True)):
        mode = resolve_mode(TrackerConfig(), os.environ, hub=hub)
        text = {"none": "not tracked", "offline": "kept offline (`biaslab sync`)", "online": "sent as they end"}[mode]
        yield Finding("ok", "wandb", f"{where}; runs of {words}: {text}")


def _disk() -> Iterator[Finding]:
    from huggingface_hub import constants

    for name, folder in (("outputs", Path("outputs")), ("hub cache", Path(constants.HF_HUB_CACHE))):
        there = folder.resolve()
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
        text = f"{free / 2**30:.1f} GiB free at {there}"
        yield Finding("ok" if writable else "FAIL", name, text if writable else f"{there} cannot be written to")


SECTIONS: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
    ("versions", _versions),
    ("devices", _devices),
    ("accelerators", _accelerators),
    ("hub", _hub),
    ("tracker", _tracker),
    ("disk", _disk),
)
