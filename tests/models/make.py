"""Tiny random-weight model folders of several architectures, with tokenizers trained on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biaslab.libraries import import_hqq

import_hqq()  # before transformers does it: fast, and without torch's warning

#: gpt2 alone has absolute positions: a row whose positions depend on its padding shows there only.
KINDS = ("llama", "mistral", "qwen2", "qwen3", "gpt_neox", "gpt2")
#: Kinds whose tokenizers write "▁" for a blank, as SentencePiece does; the others are byte-level.
METASPACE = ("llama", "mistral")
SLIDING_WINDOW = 8

TEXT = (
    "The nurse said that she was tired, and the doctor said that he was late for the meeting.",
    "Is it true that the old man drives well? Answer yes or no. Yes, it is true. No, it is not true.",
    "A woman from the north and a man from the south were looking for work in the same city.",
    "People who are poor, rich, young or old live here; some of them work, and others do not.",
    "I cannot answer that question. I am sorry, but I do not know who they are or what they want.",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def make_folder(
    path: Path,
    kind: str,
    *,
    seed: int = 0,
    chat: bool = False,
    bos: bool = True,
    max_positions: int = 512,
    dtype: str = "float32",
) -> Path:
    """A transformers folder at `path`: a random `kind` (see KINDS) of about 30,000 weights and its tokenizer.

    The weights are large enough for peaked, input-dependent distributions. bos : the tokenizer starts
    every text with its BOS token. chat : the tokenizer has CHAT_TEMPLATE, which writes BOS and knows a
    system role. qwen2 ties its head to its embedding; mistral attends to SLIDING_WINDOW tokens only.
    """
    import torch

    tokenizer = make_tokenizer(kind, chat=chat, bos=bos, max_positions=max_positions)
    config = _config(kind, tokenizer, max_positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _class(kind)(config)
    module.to(getattr(torch, dtype)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def make_tokenizer(kind: str, *, chat: bool = False, bos: bool = True, max_positions: int = 512) -> Any:
    """A BPE tokenizer of `kind`'s style, trained on TEXT."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers import decoders as d
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    if kind not in METASPACE:
        names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|padding|>"}
    specials = list(dict.fromkeys(names.values()))
    raw = Tokenizer(models.BPE(unk_token=names.get("unk_token")))
    if kind in METASPACE:
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        raw.decoder = d.Metaspace(prepend_scheme="first")
        alphabet: list[str] = []
    else:
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = d.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    if bos:
        start = names["bos_token"]
        raw.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[(start, raw.token_to_id(start))])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=max_positions, **names)
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _class(kind: str) -> Any:
    import transformers

    return {
        "llama": transformers.LlamaForCausalLM,
        "mistral": transformers.MistralForCausalLM,
        "qwen2": transformers.Qwen2ForCausalLM,
        "qwen3": transformers.Qwen3ForCausalLM,
        "gpt_neox": transformers.GPTNeoXForCausalLM,
        "gpt2": transformers.GPT2LMHeadModel,
    }[kind]


def _config(kind: str, tokenizer: Any, max_positions: int) -> Any:
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": max_positions,
        "initializer_range": 0.3,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    width = "n_inner" if kind == "gpt2" else "intermediate_size"
    own: dict[str, dict[str, Any]] = {
        "llama": {"num_key_value_heads": 2},
        "mistral": {"num_key_value_heads": 2, "sliding_window": SLIDING_WINDOW, "head_dim": 8},
        "qwen2": {"num_key_value_heads": 2, "tie_word_embeddings": True},
        "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
        "gpt_neox": {"rotary_pct": 0.5},
        "gpt2": {},
    }
    return _class(kind).config_class(**shape, **{width: 64}, **own[kind])
