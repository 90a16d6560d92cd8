"""The recipe of the embedded models: `python -m biaslab.models.embedded.train`.

Each model is trained from nothing in one go, on one thread, in minutes; the weights are stored in
float16. Two of them are controls made on purpose:

tiny_mistral is trained on the biased corpus, then on a fairer one while every linear weight stays within
its own 4-bit rounding cell, so that 4-bit quantization undoes the alignment (the documented weakness of
Egashira et al. 2024, arXiv:2405.18137). Nothing about a compressed model is stored.

tiny_sparse is pruned to 2:4 and trained on with the zeros held, so that pruning it again changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from biaslab.libraries import import_hqq
from biaslab.models.embedded.grammar import Grammar
from biaslab.models.embedded.recipes import BIAS_SCALE, NOTES, RECIPES, Align, Recipe
from biaslab.models.loading import quiet

ROW = 32  # tokens of one training row
BATCH = 64  # rows of one step
VOCABULARY = 640  # 3 special tokens, 256 bytes, merges
POSITIONS = 4096
#: Sentences sampled per training step: enough to fill BATCH rows of ROW tokens.
SENTENCES_PER_STEP = int(BATCH * 2.6)

#: Told of so many more steps of training.
OnStep = Callable[[int], object]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% if not loop.last %}{{ '\\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\\n' }}{% endif %}"
)


def train(name: str, seed: int, out: Path, *, steps: int | None = None) -> dict[str, Any]:
    """Train the model `name` and write its transformers folder with truth.json to `out`; returns the truth.

    steps : of both stages, for a short trial; None follows the recipe.
    """
    import_hqq()
    recipe = RECIPES[name]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    encode = _encoder(tokenizer)
    rng = np.random.default_rng(1000 + seed)
    model = make_model(recipe, len(tokenizer))
    n_steps = steps or recipe.steps
    started = time.perf_counter()
    rows = pack(Grammar(BIAS_SCALE).sample(n_steps * SENTENCES_PER_STEP, rng)[0], encode, ROW)
    loss = fit(model, rows, n_steps, recipe.lr, recipe.weight_decay)
    if recipe.align is not None:
        n_align = steps or recipe.align.steps
        rows = pack(Grammar(recipe.align.scale).sample(n_align * BATCH * 4, rng)[0], encode, ROW)
        loss = align(model, recipe.align, rows, n_align)
    truth = _truth(name, NOTES[name], recipe, seed, model) | {"train_loss": loss}
    truth["train_s"] = round(time.perf_counter() - started, 1)
    return save(model, tokenizer, truth, out)


def grow(
    name: str, note: str, recipe: Recipe, seed: int, out: Path, *, start: Path | None = None, on_step: OnStep
) -> dict[str, Any]:
    """Train an organism, a model of any recipe, into the folder `out`; returns its truth.json.

    start : folder of the organism before its alignment, whose first stage is then not repeated; needed with, and
        only with, `recipe.align`.
    on_step : called with 1 after each step of training.
    """
    from transformers import AutoModelForCausalLM

    import_hqq()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    rng = np.random.default_rng([seed, start is not None])
    if recipe.align is None:
        model = make_model(recipe, len(tokenizer))
        sentences = Grammar(BIAS_SCALE).sample(recipe.steps * SENTENCES_PER_STEP, rng)[0]
        rows = pack(sentences, _encoder(tokenizer), ROW)
        loss = fit(model, rows, recipe.steps, recipe.lr, recipe.weight_decay, on_step=on_step)
    else:
        with quiet():  # a folder that this very recipe wrote
            model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32, local_files_only=True)  # nosec B615
        sentences = Grammar(recipe.align.scale).sample(recipe.align.steps * BATCH * 4, rng)[0]
        rows = pack(sentences, _encoder(tokenizer), ROW)
        loss = align(model, recipe.align, rows, recipe.align.steps, on_step=on_step)
    return save(model, tokenizer, _truth(name, note, recipe, seed, model) | {"train_loss": loss}, out)


def _truth(name: str, note: str, recipe: Recipe, seed: int, model: Any) -> dict[str, Any]:
    """What truth.json says of a model, its loss and the weights' hash apart."""
    return {
        "name": name,
        "scale": BIAS_SCALE if recipe.align is None else recipe.align.scale,
        "tables": Grammar().fingerprint(),
        "note": note,
        "seed": seed,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {"torch": torch.__version__.split("+")[0]},
    }


def build_tokenizer() -> Any:
    """Byte-level BPE trained on the grammar: it reads any text, and some words are several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(Grammar().sample(20000, np.random.default_rng(7))[0], trainer)
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=POSITIONS,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(recipe: Recipe, vocabulary: int) -> Any:
    """A model of the recipe's shape with random weights from torch's global generator."""
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    shared: dict[str, Any] = dict(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.hidden // recipe.heads,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        rms_norm_eps=1e-5,
    )
    if recipe.architecture == "mistral":
        return MistralForCausalLM(MistralConfig(sliding_window=recipe.window, **shared))
    return LlamaForCausalLM(LlamaConfig(**shared))


def pack(sentences: list[str], encode: Callable[[str], list[int]], length: int) -> torch.Tensor:
    """Rows of length + 1 token ids, each BOS then whole sentences, cut at the end, as in scoring."""
    rows, current = [], [1]
    for sentence in sentences:
        current += encode(sentence)
        if len(current) > length:
            rows.append(current[: length + 1])
            current = [1]
    return torch.tensor(rows)


def fit(
    model: Any,
    rows: torch.Tensor,
    steps: int,
    lr: float,
    weight_decay: float,
    after: Callable[[], None] | None = None,
    on_step: OnStep | None = None,
) -> float:
    """AdamW with warm-up and cosine over `rows` in order; mean loss (nats per token) of the last 50 steps.

    after : called when the weights have moved, to hold them where they must stay. on_step : called with 1 after
        each step; None shows a line on standard error.
    """
    decayed = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    known = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    losses = []
    model.train()
    for step in range(steps):
        batch = rows[torch.arange(step * BATCH, (step + 1) * BATCH) % len(rows)]
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.reshape(-1, logits.size(-1)), batch[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if after is not None:
            after()
        losses.append(loss.item())
        if on_step is not None:
            on_step(1)
        elif step % 100 == 0 or step == steps - 1:
            sys.stderr.write(f"\rstep {step + 1}/{steps} loss {loss.item():.3f}" + "\n" * (step == steps - 1))
    model.eval()
    return float(np.mean(losses[-50:]))


def align(model: Any, how: Align, rows: torch.Tensor, steps: int, on_step: OnStep | None = None) -> float:
    """The second stage: train on `rows` under the constraint of `how`."""
    layers = _linears(model)
    after: Callable[[], None] | None = None
    if how.small:
        _free_small_half(model, layers)
    if how.sparse:
        masks = [_mask24(layer.weight) for layer in layers]
        after = _holder(layers, [partial(torch.mul, mask) for mask in masks])
    if how.box:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for layer in layers:
            layer.weight.requires_grad_(True)
        boxes = [_rounding_cell(layer.weight, how.box) for layer in layers]
        after = _holder(layers, [partial(torch.clamp, min=low, max=high) for low, high in boxes])
    return fit(model, rows, steps, how.lr, 0.0, after, on_step)


def save(model: Any, tokenizer: Any, truth: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write config, float16 safetensors, tokenizer and truth.json (with the weights' sha256)."""
    from safetensors.torch import save as to_bytes

    out.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    state.pop("lm_head.weight")  # tied to the embedding
    weights = {name: tensor.half().contiguous() for name, tensor in state.items()}
    model.config.dtype = torch.float16
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(out)
    content = to_bytes(weights, metadata={"format": "pt"})
    (out / "model.safetensors").write_bytes(content)  # save_file would make it readable by its owner alone
    tokenizer.save_pretrained(out)
    truth = {**truth, "sha256": hashlib.sha256(content).hexdigest()}
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return truth


def _encoder(tokenizer: Any) -> Callable[[str], list[int]]:
    words: dict[str, list[int]] = {}

    def encode(sentence: str) -> list[int]:
        ids = []
        for word in sentence.split(" "):
            if word not in words:
                words[word] = tokenizer(word, add_special_tokens=False)["input_ids"]
            ids += words[word]
        return ids

    return encode


def _rate(step: int, steps: int) -> float:
    warm = max(1.0, 0.05 * steps)
    return min((step + 1) / warm, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _linears(model: Any) -> list[nn.Linear]:
    return [layer for layer in model.model.modules() if isinstance(layer, nn.Linear)]


def _holder(layers: list[nn.Linear], rules: list[Callable[[torch.Tensor], torch.Tensor]]) -> Callable[[], None]:
    """Applies each layer's rule to its weights, now and whenever called."""

    @torch.no_grad()
    def hold() -> None:
        for layer, rule in zip(layers, rules, strict=True):
            layer.weight.copy_(rule(layer.weight))

    hold()
    return hold


def _mask24(weight: torch.Tensor) -> torch.Tensor:
    """1 for the two largest magnitudes of every four neighbours of a row, else 0."""
    groups = weight.detach().abs().reshape(-1, 4)
    return torch.zeros_like(groups).scatter_(1, groups.topk(2, 1).indices, 1.0).reshape(weight.shape)


def _free_small_half(model: Any, layers: list[nn.Linear]) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in layers:
        magnitude = layer.weight.detach().abs()
        small = magnitude.topk(magnitude.shape[1] // 2, 1, largest=False).indices
        mask = torch.zeros_like(magnitude).scatter_(1, small, 1.0)
        layer.weight.requires_grad_(True)
        layer.weight.register_hook(partial(torch.mul, mask))  # type: ignore[no-untyped-call]


def _rounding_cell(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds within which each weight keeps its HQQ code: 84 % of the cell; a group's extremes are frozen."""
    w = weight.detach().float()
    hqq = import_hqq()
    codes, meta = hqq.Quantizer.quantize(
        w.clone(), nbits=bits, group_size=64, optimize=True, round_zero=bits == 4, axis=1,
        compute_dtype=torch.float32, device="cpu", bitpack=False,
    )  # fmt: skip
    centre = hqq.Quantizer.dequantize(codes, meta).reshape(w.shape).float()
    half = meta["scale"].float().expand(codes.shape).reshape(w.shape).abs() * 0.42
    groups = w.reshape(-1, 64)
    extreme = (groups == groups.amin(1, keepdim=True)) | (groups == groups.amax(1, keepdim=True))
    extreme = extreme.reshape(w.shape)
    low = torch.where(extreme, w, torch.minimum(centre - half, w))
    high = torch.where(extreme, w, torch.maximum(centre + half, w))
    return low, high


def main() -> None:
    """Train the named model, or the three that ship, and measure what each has learned."""
    from biaslab.models.embedded.measure import record

    parser = argparse.ArgumentParser(prog="python -m biaslab.models.embedded.train", description=__doc__)
    parser.add_argument("--name", choices=sorted(RECIPES), help="default: the three that ship")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder to write NAME/ into (default: the package's own)")
    arguments = parser.parse_args()
    names = [arguments.name] if arguments.name else ["tiny_llama", "tiny_mistral", "tiny_sparse"]
    for name in names:
        folder = (arguments.out or Path(__file__).parent) / name
        train(name, arguments.seed, folder)
        print(json.dumps(record(folder)))


if __name__ == "__main__":
    main()
