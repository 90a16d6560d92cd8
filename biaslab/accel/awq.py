"""AWQ: weights rounded after the channels that matter most were scaled up, their inputs down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from biaslab.accel.calibration import Calibration
from biaslab.accel.compressor import Compressed
from biaslab.models.base import LoadedModel, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor, nn


#: Scaled layers of architectures that llm-compressor has none for: (layer before, layers it feeds).
MAPPINGS = {
    "GPTNeoXForCausalLM": (
        ("re:.*input_layernorm$", ["re:.*attention.query_key_value$"]),
        ("re:.*post_attention_layernorm$", ["re:.*mlp.dense_h_to_4h$"]),
    )
}
#: Architectures that need no look into the library, which is slow to import.
KNOWN = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", *MAPPINGS)


@dataclass
class Awq(Compressed):
    """Lin et al. 2024 (arXiv:2306.00978) by llm-compressor.

    grid : strengths of scaling tried for each layer. The scaling goes into the norms and layers before it, so
    without rounding the model would answer as before; layer errors are against the scaled weights.
    """

    symmetric: bool = False
    grid: int = 20

    family: ClassVar[str] = "awq"
    rescales: ClassVar[bool] = True
    summary: ClassVar[str] = "AWQ activation-aware weight quantization in groups (llm-compressor, calibrated)"

    def check(self) -> str | None:
        """See Accelerator.check."""
        return f"grid={self.grid}: at least 1" if self.grid < 1 else super().check()

    def unsupported(self, model: ModelInfo, device: str) -> str | None:
        """See Accelerator.unsupported."""
        return super().unsupported(model, device) or _unmapped(model.architecture)

    def recipe(self, model: LoadedModel, groups: Mapping[str, Any]) -> list[Any]:
        """See Compressed.recipe."""
        from llmcompressor.modifiers.quantization import QuantizationModifier
        from llmcompressor.modifiers.transform.awq import AWQMapping, AWQModifier

        own = [AWQMapping(*entry) for entry in MAPPINGS.get(model.info.architecture, ())]
        return [AWQModifier(n_grid=self.grid, mappings=own or None), QuantizationModifier(config_groups=dict(groups))]

    def before(self, original: Tensor, linear: nn.Linear) -> Tensor:
        """See Compressed.before: the scaled weight, which the library leaves unrounded."""
        return linear.weight.detach()

    def method(self) -> str:
        """See Quantizer.method."""
        return f"AWQ {self.bits} bits"

    def details(self, model: LoadedModel) -> Mapping[str, Any]:
        """See Quantizer.details."""
        return {"grid": self.grid, "error_against": "the scaled weights"}

    @classmethod
    def test_config(cls) -> dict[str, Any]:
        """See Accelerator.test_config."""
        return {"calibration": Calibration(samples=4, length=16), "grid": 4}


def _unmapped(architecture: str) -> str | None:
    """The reason why nobody has said which layers of this architecture feed which, or None."""
    if architecture in KNOWN:
        return None
    from llmcompressor.modifiers.transform.awq.mappings import AWQ_MAPPING_REGISTRY

    if architecture in AWQ_MAPPING_REGISTRY:
        return None
    return f"llm-compressor does not know which layers of {architecture} to scale; gptq4 needs no such knowledge"
