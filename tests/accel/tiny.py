"""Small random-weight models of every architecture, made here: GQA, biases, odd widths, tied, untied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from biaslab.libraries import import_hqq
from biaslab.models.base import LoadedModel, ModelInfo, Planted

import_hqq()  # before transformers does it: fast, and without torch's warning

SHAPE = {
    "vocab_size": 258,
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 256,
    "bos_token_id": 256,
    "eos_token_id": 257,
}


def _llama(**more: Any) -> Any:
    return transformers.LlamaConfig(**(SHAPE | more), num_key_value_heads=2)


def _mistral(**more: Any) -> Any:
    return transformers.MistralConfig(**(SHAPE | more), num_key_value_heads=3, sliding_window=8)


def _qwen2(**more: Any) -> Any:
    # A sliding window in the second layer only: layers are called with different masks.
    window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    return transformers.Qwen2Config(**(SHAPE | more), num_key_value_heads=2, **window)


def _qwen3(**more: Any) -> Any:
    return transformers.Qwen3Config(**(SHAPE | more), num_key_value_heads=2, head_dim=16)


def _neox(**more: Any) -> Any:
    return transformers.GPTNeoXConfig(**(SHAPE | more))


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt_neox": _neox,
}


def make(
    architecture: str = "llama",
    *,
    tied: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    planted: Planted | None = None,
    **more: Any,
) -> LoadedModel:
    """A model with weights of a useful size: the default initialisation is too small to move a logit."""
    config = ARCHITECTURES[architecture](tie_word_embeddings=tied, **more)
    torch.manual_seed(seed)
    module = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    info = ModelInfo(
        label=architecture,
        source="local",
        identity="sha256:0",
        path="",
        architecture=type(module).__name__,
        config=config.to_dict(),
        planted=planted,
    )
    return LoadedModel(module, tokenizer(), info, torch.device("cpu"), dtype)


def tokenizer() -> Any:
    """Bytes as tokens, <s> in front: reads any text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)} | {"<s>": 256, "</s>": 257}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")


def outside_the_decoder(module: Any) -> dict[str, torch.Tensor]:
    """Copies of every parameter that no accelerator may touch: embeddings, head, norms, biases."""
    return {
        name: value.detach().clone()
        for name, value in module.named_parameters()
        if value.dim() == 1 or "embed" in name or "lm_head" in name
    }
