"""From a name, a folder or a hub id to a loaded model.

`describe_*` tell what is known without weights, and import no torch. `load` takes safetensors only, runs no
code from a model repository unless told to trust it, and never accepts a layer that the checkpoint lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from biaslab.errors import BiaslabError, CellFailed, ConfigError
from biaslab.libraries import import_hqq
from biaslab.models.base import LoadedModel, ModelInfo, Planted
from biaslab.models.folders import describe_local, safe_label
from biaslab.models.hub import describe_hub, hub_errors

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
) -> LoadedModel:
    """The model in evaluation mode on `device`, computing in `dtype` (one of DTYPES).

    load_kwargs : of an accelerator that quantizes while loading; merged into from_pretrained.
    Raises CellFailed if the checkpoint lacks a layer (which would be random), has one too many, or cannot
    be read; DataUnavailable if the hub does not give it.
    """
    import torch

    import_hqq()  # before transformers does it, slowly
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype}: choose one of {', '.join(DTYPES)}")
    where = _where(info) | {"trust_remote_code": trust_remote_code}
    options = {"dtype": getattr(torch, dtype), "use_safetensors": True, **where, **(load_kwargs or {})}
    quantized = "quantization_config" in options or "quantization_config" in info.config
    if quantized:  # such modules are placed while they load and refuse to be moved or cast
        options.setdefault("device_map", {"": device})
    on_hub = hub_errors(info.path, where["revision"]) if info.source == "hub" else nullcontext()
    with _quiet(), _load_errors(info), on_hub:
        tokenizer = AutoTokenizer.from_pretrained(info.path, **where)
        module, report = AutoModelForCausalLM.from_pretrained(info.path, output_loading_info=True, **options)
    _check_report(info, report)
    if not quantized:
        module = module.to(device)
    return LoadedModel(module.eval(), tokenizer, info, torch.device(device), getattr(torch, dtype))


def default_device() -> str:
    """Return "cuda" where a GPU is usable, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_dtype(name: str, device: str) -> str:
    """`name`, or for "auto" float32 on a CPU and bfloat16 on anything else."""
    if name != "auto":
        return name
    return "float32" if device == "cpu" else "bfloat16"


def free_memory(device: str) -> float:
    """Bytes that can still be allocated on `device`."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0])
    import psutil  # type: ignore[import-untyped]

    return float(psutil.virtual_memory().available)


def _where(info: ModelInfo) -> dict[str, Any]:
    """Arguments that pin what from_pretrained reads: the commit that was described, or this folder alone."""
    if info.source == "hub":
        return {"revision": info.identity.rsplit("@", 1)[1]}
    return {"local_files_only": True}


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
