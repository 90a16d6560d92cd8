"""How fast an arm reads and writes tokens, and how much memory that takes: on fixed work, by the clock.

Speed is of this machine at this moment. It is measured for every arm in the same way and in the same process,
so it compares arms; it is no claim about another machine.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biaslab.models.base import BY_TOKEN, LoadedModel

if TYPE_CHECKING:
    import torch


@dataclass
class EfficiencyConfig:
    """The fixed work on which each arm is measured, once for all its benchmarks.

    repeats : timed runs of each measurement, of which the median counts; one more before them is not timed.
    prompt_tokens, new_tokens : read, and written after them. batch : rows of the batched measurement.
    text_tokens : of each text written to see how much it repeats itself. budget_s : after so many seconds a
    measurement takes no further repeat. speed : false leaves speed and repetition out (NaN, with the reason).
    """

    repeats: int = 3
    prompt_tokens: int = 64
    new_tokens: int = 16
    batch: int = 8
    text_tokens: int = 32
    budget_s: float = 20.0
    speed: bool = True


@dataclass
class Peak:
    """Bytes in use at the highest point of a stretch of work; NaN with `reason` where that cannot be known."""

    bytes: float = math.nan
    reason: str = ""


@dataclass
class Speed:
    """Tokens per second of reading and of writing, and why a number is missing."""

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@contextmanager
def peak_memory(devices: Iterable[torch.device]) -> Iterator[Peak]:
    """The peak while the block runs: what the allocators of the GPUs among `devices` had given out, summed.

    On a CPU there is none: the memory of a process holds Python, its libraries and what earlier arms left behind,
    so that of equal arms the later one would seem to need more. It is filled in when the block ends.
    """
    import torch

    peak = Peak()
    gpus = sorted({device for device in devices if device.type == "cuda"}, key=str)
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    yield peak
    if gpus:
        peak.bytes = float(sum(torch.cuda.max_memory_allocated(gpu) for gpu in gpus))
    else:
        peak.reason = "only a GPU's allocator tells an arm's memory from the rest of the process"


def measure_speed(model: LoadedModel, config: EfficiencyConfig, texts: Sequence[str]) -> Speed:
    """prefill_ and decode_tokens_per_s of one row, and the same with `_batched` of config.batch rows.

    texts : from which the prompts are cut; what is in them does not change the work.
    """
    import torch

    speed = Speed()
    length = min(config.prompt_tokens, model.context_length - config.new_tokens)
    stream = _stream(model, texts, length * config.batch)
    if length < 1 or len(stream) < length * config.batch:
        reason = (
            f"{len(stream)} tokens of text, {length * config.batch} are needed in a window of {model.context_length}"
        )
        return Speed(reasons={"prefill_tokens_per_s": reason, "decode_tokens_per_s": reason})
    for ending, size in (("", 1), ("_batched", config.batch)):
        rows = [stream[i * length : (i + 1) * length] for i in range(size)]
        ids = torch.tensor(rows, dtype=torch.long, device=model.device)
        try:
            with torch.inference_mode():
                read, written = _time(model, ids, config)
        except torch.OutOfMemoryError:
            speed.reasons[f"decode_tokens_per_s{ending}"] = f"no memory for {size} rows of {length} tokens"
            continue
        speed.values[f"prefill_tokens_per_s{ending}"] = size * length / read
        speed.values[f"decode_tokens_per_s{ending}"] = size * config.new_tokens / written
    return speed


def _stream(model: LoadedModel, texts: Sequence[str], n: int) -> list[int]:
    """At least `n` token ids of the texts, over again if they are short."""
    ids: list[int] = []
    for text in texts:
        ids += model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids * (1 + n // len(ids)) if ids else []


def _time(model: LoadedModel, ids: torch.Tensor, config: EfficiencyConfig) -> tuple[float, float]:
    """Median seconds of reading `ids`, and of writing config.new_tokens after them."""
    _write(model, _read(model, ids), ids, 2)  # kernels are chosen and memory is taken the first time
    reads: list[float] = []
    writes: list[float] = []
    start = time.perf_counter()
    while len(reads) < config.repeats and (not reads or time.perf_counter() - start < config.budget_s):
        seconds, output = _clock(model, lambda: _read(model, ids))
        reads.append(seconds)
        seconds, _ = _clock(model, lambda output=output: _write(model, output, ids, config.new_tokens))  # type: ignore[misc]
        writes.append(seconds)
    return statistics.median(reads), statistics.median(writes)


def _clock(model: LoadedModel, work: Callable[[], Any]) -> tuple[float, Any]:
    _wait_for(model.device)
    start = time.perf_counter()
    result = work()
    _wait_for(model.device)
    return time.perf_counter() - start, result


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _read(model: LoadedModel, ids: torch.Tensor) -> Any:
    """One forward over the prompt through the arm's cache, token by token where the cache asks for that."""
    cache = model.cache_factory() if model.cache_factory is not None else None
    parts = ids.split(1, dim=1) if cache is not None and model.cache_use == BY_TOKEN else (ids,)  # type: ignore[no-untyped-call]
    seen = 0
    output = None
    for part in parts:
        output = _step(model, part, seen, cache)
        cache, seen = output.past_key_values, seen + part.shape[1]
    return output


def _write(model: LoadedModel, output: Any, ids: torch.Tensor, n: int) -> None:
    """`n` more tokens, greedily, each read before the next; an end token does not end it."""
    seen = ids.shape[1]
    for _ in range(n):
        token = output.logits[:, -1].argmax(-1, keepdim=True)
        output = _step(model, token, seen, output.past_key_values)
        seen += 1


def _step(model: LoadedModel, ids: torch.Tensor, seen: int, cache: Any) -> Any:
    import torch

    from biaslab.engine.batching import call

    n_rows, n = ids.shape
    return call(
        model.module,
        input_ids=ids,
        attention_mask=torch.ones((n_rows, seen + n), dtype=torch.long, device=ids.device),
        position_ids=torch.arange(seen, seen + n, device=ids.device).expand(n_rows, n),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
