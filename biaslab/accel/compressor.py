"""Weights quantized by llm-compressor and then held as packed codes: what GPTQ and AWQ share.

The library rounds, observes and searches; it leaves each layer with a float weight, a scale and a zero point,
and rounds again at every forward. Here each such layer becomes a `PackedLinear` of the very same numbers, so
that memory is what 4 bits cost and nothing of the library is needed to ask the model.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.facts import LayerChange, layer_change, sparsity, weight_values
from biaslab.accel.layers import replace
from biaslab.accel.quantizing import Quantizer, fitting_group, group_words, misfit, no_group, targets
from biaslab.accel.tracing import check_inputs, first_inputs, own_inputs, traceable
from biaslab.errors import BiaslabError, CellFailed
from biaslab.models.base import Fact, LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from biaslab.accel.modules.packed import PackedLinear

BITS = (2, 3, 4, 8)


@dataclass
class Compressed(Quantizer):
    """Calibrated weight-only quantization of every Linear layer but the head, by llm-compressor.

    bits : 2, 3, 4 or 8. group_size : weights of a row that share a scale; a row it does not divide uses the
    largest divisor of its width below it, and the Fact tells. symmetric : without zero points.
    """

    bits: int = 4
    group_size: int = 128
    symmetric: bool = True
    calibration: Calibration = field(default_factory=Calibration)

    requires: ClassVar[tuple[str, ...]] = ("llmcompressor", "datasets")
    restorable: ClassVar[bool] = True

    def check(self) -> str | None:
        """See Accelerator.check."""
        if self.bits not in BITS:
            return f"bits={self.bits}: one of {', '.join(map(str, BITS))}"
        if self.group_size < 8:
            return f"group_size={self.group_size}: at least 8"
        return self.calibration.check()

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        return super().unsupported(model, device) or misfit(model, self.group_size)

    @abstractmethod
    def recipe(self, model: LoadedModel, groups: Mapping[str, Any]) -> list[Any]:
        """The library's modifiers; `groups` are its config groups, one for each size of group."""

    @abstractmethod
    def before(self, original: Tensor, linear: nn.Linear) -> Tensor:
        """The weight that a rounded one is compared with."""

    def apply(self, model: LoadedModel, name: str) -> LoadedModel:
        """See Accelerator.apply. Raises CellFailed with the library's own words where it gives up."""
        start = time.perf_counter()
        zeros = sparsity(model.module)
        calibrated = calibration_ids(model, self.calibration)
        rows = within_window(calibrated.ids, getattr(model.module.config, "sliding_window", None))
        names = targets(model.module, self.skip, name)
        sizes = {target: self._group(target, model.module.get_submodule(target)) for target in names}
        # Beside the model, in the CPU's memory: a GPU that holds the weights once may not hold them twice.
        originals = {target: _on_cpu(model.module.get_submodule(target).weight) for target in names}
        groups = config_groups(sizes, self.bits, self.symmetric)
        run_oneshot(model, rows, lambda: self.recipe(model, groups), name)
        changes = [self._pack(model.module, target, originals.pop(target)) for target in names]
        seconds = time.perf_counter() - start
        values = weight_values(model.module, changes, simulated=True, seconds=seconds)
        values |= {"bits": self.bits, "groups": group_words(list(sizes.values())), "symmetric": self.symmetric}
        values |= {"sparsity_before": zeros, "calibration": {**calibrated.facts, "rows": list(rows.shape)}}
        values |= self.details(model)
        model.facts.append(Fact(name, f"{self.method()}, {group_words(list(sizes.values()))}", values))
        return model

    def _group(self, name: str, linear: Any) -> int:
        if not (group := fitting_group(linear.in_features, self.group_size)):
            raise CellFailed(f"{name}: {no_group(linear.in_features, self.group_size)}")
        return group

    def _pack(self, module: nn.Module, name: str, original: Tensor) -> LayerChange:
        linear: Any = module.get_submodule(name)
        packed = packed_linear(linear)
        change = layer_change(name, _on_cpu(self.before(original, linear)), packed.dequantize().cpu())
        replace(module, name, packed)
        return change


def within_window(ids: Tensor, window: int | None) -> Tensor:
    """The rows cut into pieces no longer than the model's sliding window, the rest of a row left out.

    llm-compressor (0.14.0.1) is given such a model without its window (see `traceable`), and inside the window
    the two are one.
    """
    if not window or window >= ids.shape[1]:
        return ids
    return ids[:, : ids.shape[1] // window * window].reshape(-1, window)


def _on_cpu(weight: Any) -> Tensor:
    weight = weight.detach()
    return weight.clone() if weight.device.type == "cpu" else weight.cpu()  # type: ignore[no-any-return]


def config_groups(sizes: Mapping[str, int], bits: int, symmetric: bool) -> dict[str, Any]:
    """llm-compressor's config groups for layers (name -> group size), each layer by its own name."""
    groups: dict[str, Any] = {}
    for size in sorted(set(sizes.values())):
        weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": size}
        groups[f"group_{size}"] = {"targets": [n for n, s in sizes.items() if s == size], "weights": weights}
    return groups


def run_oneshot(model: LoadedModel, ids: Tensor, recipe: Callable[[], Sequence[Any]], step: str) -> None:
    """Run a recipe on the model in place, on exactly these rows of token ids (rows, length), in this order.

    Raises CellFailed where the library gives up, or calibrates on inputs that the model does not have.
    """
    from unittest.mock import patch

    expected = own_inputs(model.module, ids[:1])
    try:
        with _quiet(), _pinned_only_where_there_is_a_gpu(), first_inputs(model.module) as seen:
            from llmcompressor.entrypoints.oneshot import Oneshot, oneshot

            # It would read config.json again, by the model's name, to see whether the weights are quantized
            # already; `targets` has seen that on the model itself, which may have no name.
            with patch.object(Oneshot, "validate_model"):
                oneshot(
                    model=traceable(model.module, ids.shape[1]),
                    tokenizer=model.tokenizer,
                    dataset=_rows(ids),
                    max_seq_length=ids.shape[1],
                    num_calibration_samples=len(ids),
                    tie_word_embeddings=True,
                    recipe=list(recipe()),
                )
    except BiaslabError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        words = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CellFailed(f"{step}: llm-compressor gave up on {model.info.architecture} ({words.strip()})") from error
    finally:
        _let_go(model.module)
    check_inputs(model, expected, seen)


def _let_go(module: nn.Module) -> None:
    """Undo what the library leaves behind: its session keeps the model, the model a wrapped save_pretrained."""
    from llmcompressor.core import reset_session

    reset_session()
    module.__dict__.pop("save_pretrained", None)


def packed_linear(linear: Any) -> PackedLinear:
    """The layer's weight as integer codes in groups, from the scale and zero point the library has left on it."""
    import torch
    from compressed_tensors.quantization.lifecycle.forward import quantize

    from biaslab.accel.modules.packed import PackedLinear

    args = linear.quantization_scheme.weights
    zero = getattr(linear, "weight_zero_point", None)
    codes = quantize(linear.weight, linear.weight_scale, zero, args, dtype=torch.int8)
    offsets = None if args.symmetric else zero
    bias = None if linear.bias is None else linear.bias
    return PackedLinear(codes, linear.weight_scale, offsets, bias, args.num_bits)


def _rows(ids: Tensor) -> Any:
    """One row a batch, in order: of a data set of its own the library sorts the rows, by a sort that is not stable."""
    import torch
    from torch.utils.data import DataLoader

    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids.cpu()]
    return DataLoader(rows, batch_size=1)  # type: ignore[arg-type]  # a list is a data set


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's log, progress bars and warnings; what it raises is not touched."""
    import io
    import os
    import warnings
    from contextlib import redirect_stderr, redirect_stdout
    from unittest.mock import patch

    silence = io.StringIO()
    with redirect_stdout(silence), redirect_stderr(silence), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import llmcompressor  # noqa: F401  # it switches its log on when it is imported
        from loguru import logger

        for library in ("llmcompressor", "compressed_tensors"):
            logger.disable(library)
        with patch.dict(os.environ, {"TOKENIZERS_PARALLELISM": "false"}):
            yield


@contextmanager
def _pinned_only_where_there_is_a_gpu() -> Iterator[None]:
    """The library pins memory for a GPU even where there is none, and fails there."""
    from unittest.mock import patch

    import torch

    if torch.accelerator.is_available():
        yield
        return
    with patch.object(torch.Tensor, "pin_memory", lambda tensor, *_args, **_options: tensor):
        yield
