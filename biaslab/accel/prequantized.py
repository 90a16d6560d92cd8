"""A ready checkpoint of somebody else's, paired with its original like any accelerator."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from biaslab.accel.base import Accelerator
from biaslab.accel.facts import layer_change, weight_values
from biaslab.accel.layers import dense_weight, linears
from biaslab.errors import CellFailed, ConfigError, DataUnavailable
from biaslab.libraries import missing
from biaslab.models.base import Fact, LoadedModel, ModelInfo
from biaslab.models.folders import describe_local
from biaslab.models.hub import describe_hub

#: quant_method of config.json -> (what it is called, modules its reader needs). "" : no quantization_config.
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    "": ("dense", ()),
    "awq": ("AWQ (AutoAWQ's format)", ()),
    "gptq": ("GPTQ (AutoGPTQ's format)", ()),
    "bitsandbytes": ("bitsandbytes", ("bitsandbytes", "accelerate")),
    "compressed-tensors": ("compressed-tensors", ("compressed_tensors", "accelerate")),
}
#: Fields of config.json that must be the original's.
SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
SHAPE += ("head_dim", "vocab_size")  # type: ignore[assignment]


@dataclass
class Prequantized(Accelerator):
    """model=<the original> accel=prequantized, with the checkpoint in its place; safetensors only.

    id, revision : of the hub; or path : a folder. Its architecture, shapes and tokenizer must be the original's.
    """

    id: str = ""
    revision: str = "main"
    path: str = ""

    family: ClassVar[str] = "prequantized"
    kind: ClassVar[str] = "checkpoint"
    summary: ClassVar[str] = "a ready AWQ, GPTQ, bitsandbytes, compressed-tensors or pruned checkpoint of the model"
    needs_yours: ClassVar[str] = "accel.prequantized.path=DIR (or accel.prequantized.id=OWNER/NAME)"

    def check(self) -> str | None:
        """See Accelerator.check."""
        if bool(self.id) == bool(self.path):
            return f"id={self.id} path={self.path}: give one of them, the checkpoint's hub id or its folder"
        return None

    def describe(self) -> ModelInfo:
        """What is known of the checkpoint without its weights; ConfigError names the accelerator's own field."""
        try:
            return describe_local(self.path) if self.path else describe_hub(self.id, self.revision)
        except DataUnavailable as error:
            raise DataUnavailable(str(error).replace("model.", "accel.prequantized.")) from error
        except ConfigError as error:
            raise ConfigError(str(error).replace("model.", "accel.prequantized.")) from error

    def identity(self, model: ModelInfo) -> Mapping[str, Any]:
        """See Accelerator.identity: the weights, wherever they lie."""
        return {"family": self.family, "weights": self.describe().identity}

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        if self.check() is not None:
            return None
        ready = self.describe()
        method = quant_method(ready)
        if method not in METHODS:
            known = ", ".join(sorted(filter(None, METHODS)))
            return f"{ready.label} is quantized by {method!r}; what can be read is {known}, or dense weights"
        return missing(METHODS[method][1], self.extra) or _unlike(model, ready)

    def refuses(self, later: Accelerator) -> str | None:
        """See Accelerator.refuses: what is packed already can neither be pruned nor quantized again."""
        ready = self.describe()
        if later.kind in ("pruner", "quantizer") and (method := quant_method(ready)):
            what = "prune" if later.kind == "pruner" else "quantize again"
            return (
                f"{ready.label} is quantized already, by {METHODS.get(method, (method,))[0]}: nothing is left to {what}"
            )
        return None

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply. Raises CellFailed if weights or tokenizer are not a form of the original's."""
        from biaslab.accel import checkpoints

        start = time.perf_counter()
        ready = self.describe()
        folder = checkpoints.local_folder(ready)
        checkpoints.check_tokenizer(model, folder, name)
        before = {layer: dense_weight(m).cpu().clone() for layer, m in linears(model.module).items()}
        method = quant_method(ready)
        if method in ("awq", "gptq"):
            module = checkpoints.read_packed(model, folder, ready.config["quantization_config"], name)
        else:
            module = checkpoints.read_whole(model, ready)
        after = linears(module)
        if after.keys() != before.keys():
            raise CellFailed(f"{name}: {ready.label} has other Linear layers than {model.info.label}")
        changes = [layer_change(layer, before[layer], dense_weight(m).cpu()) for layer, m in after.items()]
        done = replace(model, module=module)
        simulated = checkpoints.is_simulated(done, method)
        values = weight_values(module, changes, simulated=simulated, seconds=time.perf_counter() - start)
        values |= {"checkpoint": ready.identity, "file_bytes": checkpoints.file_bytes(folder), "bits": _bits(ready)}
        done.facts.append(Fact(name, f"ready checkpoint, {_words(ready, values['sparsity'])}", values))
        return done


def quant_method(info: ModelInfo) -> str:
    """The quant_method of config.json, lower case; "" where the weights are dense."""
    config = info.config.get("quantization_config") or {}
    return str(config.get("quant_method", "unknown")).lower() if config else ""


def _bits(info: ModelInfo) -> int | None:
    """Bits of a weight as config.json tells; None where it does not."""
    config = info.config.get("quantization_config") or {}
    groups = config.get("config_groups") or {}
    weights = next((group.get("weights") or {} for group in groups.values()), {})
    named = config.get("bits") or config.get("w_bit") or weights.get("num_bits")
    if named is None and (config.get("load_in_4bit") or config.get("load_in_8bit")):
        named = 4 if config.get("load_in_4bit") else 8
    return named


def _words(info: ModelInfo, sparsity: float) -> str:
    """What the checkpoint is: its format and bits, or how much of its dense weights is pruned."""
    method = quant_method(info)
    bits = _bits(info)
    words = METHODS[method][0] + (f", {bits} bits" if bits else "")
    # A coarse grid has zeros of its own; that many only a pruned model has.
    return f"{words}, {100 * sparsity:.1f} % zeros" if sparsity > (0.3 if method else 0.01) else words


def _unlike(model: ModelInfo, ready: ModelInfo) -> str | None:
    if ready.architecture != model.architecture:
        return f"{ready.label} is a {ready.architecture}, {model.label} a {model.architecture}; name its original"
    for name in SHAPE:
        mine, theirs = model.config.get(name), ready.config.get(name)
        if mine is not None and theirs is not None and mine != theirs:
            return f"{ready.label} has {name}={theirs}, {model.label} {mine}; name its original"
    return None
