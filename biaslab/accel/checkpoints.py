"""Reading ready checkpoints into the original's module: AutoAWQ's and AutoGPTQ's packing, and what loads by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.accel.active import PROMPTS
from biaslab.accel.layers import is_linear, replace
from biaslab.errors import CellFailed
from biaslab.models.base import LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Which four bits of AutoAWQ's int32, counted from the lowest, hold each of its eight columns.
AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)


def local_folder(ready: ModelInfo) -> Path:
    """The checkpoint's folder on this machine, fetched from the hub if need be."""
    if ready.source != "hub":
        return Path(ready.path)
    from biaslab.models.hub_files import fetch

    return Path(fetch(ready, trust_remote_code=False))


def file_bytes(folder: Path) -> int:
    """Bytes of the checkpoint's weight files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def check_tokenizer(model: LoadedModel, folder: Path, step: str) -> None:
    """CellFailed unless the checkpoint's tokenizer reads as the original's: one vocabulary, the same ids."""
    from transformers import AutoTokenizer

    from biaslab.models.loading import quiet

    with quiet():
        other = AutoTokenizer.from_pretrained(folder, local_files_only=True)  # nosec B615
    if other.get_vocab() != model.tokenizer.get_vocab():
        raise CellFailed(f"{step}: the checkpoint's vocabulary is not that of {model.info.label}")
    for text in PROMPTS:
        if other(text)["input_ids"] != model.tokenizer(text)["input_ids"]:
            raise CellFailed(f"{step}: the checkpoint's tokenizer reads {text!r} otherwise than {model.info.label}'s")


def read_whole(model: LoadedModel, ready: ModelInfo) -> nn.Module:
    """A checkpoint that transformers reads itself: dense, bitsandbytes or compressed-tensors."""
    from biaslab.accel.active import reference_logits
    from biaslab.accel.bnb4 import settle
    from biaslab.models.loading import load

    loaded = load(ready, device=str(model.device), dtype=str(model.dtype).removeprefix("torch."))
    for layer in loaded.module.modules():
        if getattr(getattr(layer, "weight", None), "quant_state", None) is not None:
            settle(layer, model.device.type)
    reference_logits(loaded)  # compressed-tensors unpacks its weights at the first forward
    module: nn.Module = loaded.module
    return module


def is_simulated(model: LoadedModel, method: str) -> bool:
    """Whether the checkpoint's layers multiply in full precision on this device."""
    if method != "bitsandbytes":
        return True
    from biaslab.accel.bnb4 import Bnb4
    from biaslab.accel.bnb8 import Bnb8

    four = any(type(m).__name__.endswith("Linear4bit") for m in model.module.modules())
    return Bnb4().simulated(model) if four else Bnb8().simulated(model)


def read_packed(model: LoadedModel, folder: Path, config: Mapping[str, Any], step: str) -> nn.Module:
    """The original's module with every tensor of an AWQ or GPTQ checkpoint put in its place.

    Raises CellFailed for a variant that is not read, a tensor that has no place, and a weight that is missing.
    """
    import torch

    parts: dict[str, dict[str, Tensor]] = {}
    unseen = {name for name, _ in model.module.named_parameters()}
    for name, value in _tensors(folder):
        layer, _, part = name.rpartition(".")
        if part in ("qweight", "qzeros", "scales", "g_idx"):
            parts.setdefault(layer, {})[part] = value
        elif layer in parts and part == "bias":
            parts[layer]["bias"] = value
        else:
            _copy(model, name, value, step)
            unseen.discard(name)
    with torch.no_grad():
        for layer, tensors in parts.items():
            packed = _packed(model, layer, tensors, config, step)
            bias = getattr(model.module.get_submodule(layer), "bias", None)
            if bias is not None and packed.bias is None:
                packed.bias = bias
            replace(model.module, layer, packed.to(model.device).eval())
            unseen -= {f"{layer}.weight", f"{layer}.bias"}
    if unseen:
        raise CellFailed(f"{step}: the checkpoint lacks {len(unseen)} weights, e.g. {min(unseen)}")
    module: nn.Module = model.module
    return module


def unpack_int32(packed: Tensor, bits: int) -> Tensor:
    """The unsigned codes in int32 words, lowest bits first: (..., n) words to (..., n * 32 / bits) codes."""
    import torch

    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    codes: Tensor = (packed[..., None] >> shifts) & (2**bits - 1)
    return codes.flatten(-2)


def awq_codes(packed: Tensor) -> Tensor:
    """AutoAWQ's 4-bit codes (in or groups, out) from (in or groups, out / 8) int32 words."""
    codes = unpack_int32(packed, 4)
    eights = codes.reshape(*codes.shape[:-1], -1, 8)
    return eights[..., list(AWQ_ORDER)].flatten(-2)


def _packed(model: LoadedModel, layer: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any], step: str) -> Any:
    """The layer as packed codes of ours; the same numbers."""
    from biaslab.accel.modules.packed import PackedLinear

    bits = int(config.get("bits") or config.get("w_bit") or 0)
    method = str(config["quant_method"]).lower()
    version = str(config.get("version") or "gemm").lower()
    if bits not in ((4,) if method == "awq" else (2, 4, 8)) or (method == "awq" and version != "gemm"):
        raise CellFailed(f"{step}: {method} with {bits} bits in version {version!r} is not read")
    if not is_linear(original := model.module.get_submodule(layer)):
        raise CellFailed(f"{step}: {layer} is no Linear layer of {model.info.label}")
    codes, scale, zero = (_awq if method == "awq" else _gptq)(tensors, bits, config, f"{step}: {layer}")
    if codes.shape != (original.out_features, original.in_features):
        raise CellFailed(f"{step}: {layer} is {tuple(codes.shape)}, the original's is another")
    half = 2 ** (bits - 1)
    zero = None if zero is None else zero - half
    return PackedLinear(codes - half, scale.to(model.dtype), zero, tensors.get("bias"), bits)


Parts = tuple["Tensor", "Tensor", "Tensor | None"]


def _awq(tensors: Mapping[str, Tensor], bits: int, config: Mapping[str, Any], where: str) -> Parts:
    zero = tensors.get("qzeros")
    zeros = None if zero is None else awq_codes(zero).T.contiguous()
    return awq_codes(tensors["qweight"]).T.contiguous(), tensors["scales"].T.contiguous(), zeros


def _gptq(tensors: Mapping[str, Tensor], bits: int, config: Mapping[str, Any], where: str) -> Parts:
    codes = unpack_int32(tensors["qweight"].T.contiguous(), bits)
    scale = tensors["scales"].T.contiguous()
    # The first format stores zero points one too low.
    first = str(config.get("checkpoint_format") or "gptq").lower() != "gptq_v2"
    zero = unpack_int32(tensors["qzeros"], bits).T.contiguous() + int(first)
    group = codes.shape[1] // scale.shape[1]
    if (order := tensors.get("g_idx")) is not None:
        import torch

        if not torch.equal(order.long(), torch.arange(codes.shape[1]) // group):
            raise CellFailed(f"{where}: its groups are not of neighbouring columns (desc_act), which is not read")
    return codes, scale, zero


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the folder's safetensors, those of packed layers before others."""
    from safetensors import safe_open

    for wanted in (True, False):
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # no mapping
                    if name.endswith((".qweight", ".qzeros", ".scales", ".g_idx")) == wanted:
                        yield name, file.get_tensor(name)


def _copy(model: LoadedModel, name: str, value: Tensor, step: str) -> None:
    import torch

    try:
        own = model.module.get_parameter(name)
    except AttributeError as error:
        raise CellFailed(f"{step}: the checkpoint has {name}, which {model.info.label} has no place for") from error
    if own.shape != value.shape:
        raise CellFailed(f"{step}: {name} is {tuple(value.shape)}, the original's {tuple(own.shape)}")
    with torch.no_grad():
        own.copy_(value)
