"""From a name, a folder or a hub id to a loaded model.

`describe_*` tell what is known without weights, and import no torch. `load` takes safetensors only, runs no
code from a model repository unless told to trust it, and never accepts a layer that the checkpoint lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from biaslab.errors import BiaslabError, CellFailed, ConfigError
from biaslab.libraries import import_hqq
from biaslab.models.base import LoadedModel, ModelInfo, Planted
from biaslab.models.folders import describe_local, safe_label
from biaslab.models.hub import describe_hub
from biaslab.models.hub_files import fetch
from biaslab.models.placement import Placement, default_device, free_memory, resolve_dtype

__all__ = [
    "DTYPES",
    "default_device",
    "describe_embedded",
    "describe_hub",
    "describe_local",
    "free_memory",
    "load",
    "resolve_dtype",
    "safe_label",
]

DTYPES = ("float32", "bfloat16", "float16")


def describe_embedded(name: str) -> ModelInfo:
    """An embedded model with its planted truth.

    Raises ConfigError with the valid names, DataMismatch for weights that are not the shipped ones.
    """
    from biaslab.models import embedded

    if name not in embedded.names():
        raise ConfigError(f"model.name={name}: no such embedded model; choose one of {', '.join(embedded.names())}")
    embedded.verify(name)
    info = describe_local(str(embedded.folder(name)), name)
    scale = float(embedded.truth(name)["scale"])
    return replace(info, source="embedded", note=embedded.note(name), planted=Planted(scale))


def load(
    info: ModelInfo,
    *,
    device: str,
    dtype: str,
    load_kwargs: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    placement: Placement | None = None,
) -> LoadedModel:
    """The model in evaluation mode on `device`, computing in `dtype` (one of DTYPES).

    load_kwargs : of an accelerator that quantizes while loading; merged into from_pretrained.
    placement : attention kernel and sharding; None for the whole model on `device`.
    Raises CellFailed if the checkpoint lacks a layer (which would be random), has one too many, or cannot
    be read; DataUnavailable if the hub does not give it.
    """
    import torch

    import_hqq()  # before transformers does it, slowly
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype}: choose one of {', '.join(DTYPES)}")
    placed = (placement or Placement(device, dtype)).load_kwargs()
    options = {"dtype": getattr(torch, dtype), "use_safetensors": True, **placed, **(load_kwargs or {})}
    if "quantization_config" in options or "quantization_config" in info.config:
        options.setdefault("device_map", {"": device})  # such modules refuse to be moved or cast
    local = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    with quiet(), _load_errors(info):
        folder = str(fetch(info, trust_remote_code=trust_remote_code)) if info.source == "hub" else info.path
        # Both read a folder, which was fetched at a commit.
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)  # nosec B615
        module, report = AutoModelForCausalLM.from_pretrained(  # nosec B615
            folder, output_loading_info=True, **local, **options
        )
    _check_report(info, report)
    if "device_map" not in options:
        module = module.to(device)
    return LoadedModel(module.eval(), tokenizer, info, torch.device(device), getattr(torch, dtype))


def _check_report(info: ModelInfo, report: Mapping[str, Any]) -> None:
    """CellFailed if checkpoint and architecture do not match weight by weight (tied ones are no mismatch)."""
    for key, words in {
        "missing_keys": "the checkpoint lacks {} weights of the architecture",
        "unexpected_keys": "the checkpoint has {} weights that the architecture does not know",
        "mismatched_keys": "the checkpoint has {} weights of another shape than the config says",
    }.items():
        found = sorted(map(str, report.get(key, ())))
        if found:
            raise CellFailed(f"{info.path}: {words.format(len(found))}, e.g. {found[0]}; is it whole?")


@contextmanager
def _load_errors(info: ModelInfo) -> Iterator[None]:
    """Whatever the libraries cannot read, as a CellFailed of one line."""
    from safetensors import SafetensorError

    try:
        yield
    except BiaslabError:
        raise
    except SafetensorError as error:
        raise CellFailed(f"{info.path}: the weights cannot be read ({error}); fetch them again") from error
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CellFailed(f"{info.path}: cannot be loaded ({first.strip()})") from error


@contextmanager
def quiet() -> Iterator[None]:
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
