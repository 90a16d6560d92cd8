"""Model folders of random weights in the sizes that are timed, and a tokenizer trained on the timed texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A Llama: vocabulary beyond the tokenizer's 8k only makes its head as heavy as a real one."""

    hidden: int
    inner: int
    layers: int
    heads: int
    vocab: int
    kv_heads: int = 0  # 0: as many as heads


SHAPES = {
    "1M": Shape(64, 176, 2, 4, 8192),
    "16M": Shape(320, 864, 9, 5, 8192),
    "61M": Shape(512, 1376, 9, 8, 32000),
    "108M": Shape(320, 864, 9, 5, 128256),
}
#: Of Llama 3.2 1B and Llama 3.1 8B, for a GPU.
GPU_SHAPES = {"1B": Shape(2048, 8192, 16, 32, 128256, 8), "8B": Shape(4096, 14336, 32, 32, 128256, 8)}


def make(folder: Path, shape: Shape, texts: Iterable[str], *, device: str = "cpu", dtype: str = "float32") -> Path:
    """A transformers folder at `folder`, as any other program can load it; its weights are drawn on `device`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(texts)
    config = LlamaConfig(
        hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads or shape.heads, vocab_size=shape.vocab,
        max_position_embeddings=2048, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train_tokenizer(texts: Iterable[str]) -> Any:
    """A byte-level BPE tokenizer of at most 8,192 pieces, with a beginning token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator(texts, trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")
