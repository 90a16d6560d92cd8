"""A cell: its identity (what its key hashes) and the one function that computes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biaslab.benchmarks.base import Benchmark, Item
from biaslab.benchmarks.returned import items_of, metrics_of, record_of, requests_of
from biaslab.config import Config, DecodingConfig, PromptConfig
from biaslab.engine.batching import Batch
from biaslab.engine.prompts import tokenize_seconds
from biaslab.engine.requests import (
    ChoiceResponse,
    Decoding,
    GenerateResponse,
    LogLikelihoodResponse,
    Request,
    Response,
)
from biaslab.models.base import LoadedModel, ModelInfo
from biaslab.own_class import code_of
from biaslab.results.chunks import Chunks
from biaslab.results.store import CellRef, finite
from biaslab.subset import choose

if TYPE_CHECKING:
    import pandas as pd

    from biaslab.engine.core import Engine

Progress = Callable[[int], None]

#: Requests that a generating benchmark asks between two savings, at least; four full batches of the engine.
CHUNK = 256


@dataclass(frozen=True)
class CellSpec:
    """A cell before it is computed. `identity` is exactly what `ref.key` is the hash of."""

    ref: CellRef
    benchmark: Benchmark
    decoding: DecodingConfig
    prompt: PromptConfig
    identity: Mapping[str, Any]


@dataclass
class CellResult:
    """What computing a cell gave: rows for records.parquet, and the parts of cell.json it decides."""

    records: pd.DataFrame
    metrics: dict[str, Any]
    coverage: dict[str, int]
    timings: dict[str, float] = field(default_factory=dict)


def cell_spec(
    config: Config, info: ModelInfo, label: str, steps: Sequence[Mapping[str, Any]], name: str, dtype: str
) -> CellSpec:
    """The cell of one arm and the benchmark `name` of `config`.

    steps : what each accelerator of the stack is (`Accelerator.identity`); none of them is the baseline.
    Where nothing is generated, decoding cannot matter: such a cell is greedy with one repeat, so that
    changing the decoding does not compute it again. Nor can the prompt format matter to bare sentences.
    """
    benchmark = config.benchmark[name]
    decoding = config.decoding if benchmark.generates else DecodingConfig()
    prompt = config.prompt if benchmark.prompted else PromptConfig()
    identity = finite(
        {
            "model": info.identity,
            "accel": [dict(step) for step in steps],
            "benchmark": {
                "name": name,
                "version": benchmark.version,
                **benchmark.identity(),
                **code_of(type(benchmark)),
            },
            "data": benchmark.data_sha256(),
            "prompt": dataclasses.asdict(prompt),
            "decoding": dataclasses.asdict(decoding),
            "seed": config.seed,
            "limit": config.limit,
            "categories": sorted(config.categories),
            "sample": config.sample,
            "engine": config.engine.name,
            "dtype": dtype,
        }
    )
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    key = hashlib.sha256(canonical.encode()).hexdigest()[:32]
    ref = CellRef(benchmark_label(benchmark, config.prompt), info.label, label, key)
    return CellSpec(ref, benchmark, decoding, prompt, identity)


def benchmark_label(benchmark: Benchmark, prompt: PromptConfig) -> str:
    """The benchmark's label and the prompt format: formats are compared side by side, never mixed."""
    if not benchmark.prompted:
        return benchmark.label()
    system = f"+system={hashlib.sha256(prompt.system.encode()).hexdigest()[:8]}" if prompt.system else ""
    return benchmark.label() + ("+chat" if prompt.chat else "") + system


def select(spec: CellSpec, config: Config, info: ModelInfo) -> tuple[list[Item], list[Item]]:
    """The items the cell asks, and what it must ask beside them (empty for most benchmarks)."""
    items = choose(
        items_of(spec.benchmark, info),
        limit=config.limit,
        categories=config.categories,
        sample=config.sample,
        seed=config.seed,
    )
    return items, list(spec.benchmark.references(items, config.limit or config.sample))


def compute(
    spec: CellSpec,
    config: Config,
    model: LoadedModel,
    engine: Engine,
    on_progress: Progress | None = None,
    chunks: Chunks | None = None,
) -> CellResult:
    """Ask `model` everything the cell asks, and score the answers.

    on_progress : called with the number of requests answered since the last call.
    chunks : where a benchmark that generates keeps its answers so far. It is always asked in the same chunks,
        kept or not, so a cell that was interrupted has the very answers of one that was not.
    Raises CellFailed for NaN logits or memory that no smaller batch mends.
    """
    import pandas as pd

    start = time.perf_counter()
    own, beside = select(spec, config, model.info)
    items = [*own, *beside]
    asked = [requests_of(spec.benchmark, item) for item in items]
    built, rows, spent = time.perf_counter(), [], _Spent()
    tokenized = tokenize_seconds(model.tokenizer)
    for repeat in range(spec.decoding.repeats):
        seeds = _seeds(config.seed, repeat, items, asked)
        flat = [request for requests in asked for request in requests]
        responses = _ask(spec, model, engine, flat, seeds, repeat, on_progress, chunks, spent)
        rows += _rows(spec.benchmark, items, asked, responses, repeat)
    tokenized = tokenize_seconds(model.tokenizer) - tokenized
    frame = pd.DataFrame(rows)
    if config.record_prompts:
        frame["prompt"] = frame["item"].map(_prompt_texts(spec, model, engine, items, asked))
    frame["reference"] = frame["item"].isin({item.id for item in beside})
    if beside:
        frame = spec.benchmark.contrast(frame)
    metrics = {k: dataclasses.asdict(m) for k, m in metrics_of(spec.benchmark, frame).items()}
    frame = frame[~frame["reference"]].drop(columns="reference").reset_index(drop=True)
    frame["detail"] = [json.dumps(finite(d), ensure_ascii=False) for d in frame["detail"]]
    scored = time.perf_counter()
    timings = {"items_s": built - start, "engine_s": spent.now_s + spent.earlier_s, "tokenize_s": tokenized}
    timings["score_s"] = scored - built - spent.now_s  # tokenize_s is part of engine_s
    if spent.earlier_s:
        timings["earlier_s"] = spent.earlier_s  # the part of engine_s that an interrupted process spent
    timings |= dict(sorted(spent.forwards.items()))
    return CellResult(frame, metrics, _coverage(frame), timings)


@dataclass
class _Spent:
    """Seconds in the engine: by this process, and by earlier ones whose chunks are used.

    forwards : of this process's batches, by what was done and the length of the longest row.
    """

    now_s: float = 0.0
    earlier_s: float = 0.0
    forwards: dict[str, float] = field(default_factory=dict)

    def batch(self, batch: Batch) -> None:
        """Add a batch to those whose longest row is as long, to the next power of two."""
        name = f"{batch.kind}_{1 << (batch.longest - 1).bit_length()}_s"
        self.forwards[name] = self.forwards.get(name, 0.0) + batch.seconds


def _ask(
    spec: CellSpec,
    model: LoadedModel,
    engine: Engine,
    requests: Sequence[Request],
    seeds: Sequence[int],
    repeat: int,
    on_progress: Progress | None,
    chunks: Chunks | None,
    spent: _Spent,
) -> list[Response]:
    """The answers of one repeat; a generating benchmark is asked chunk by chunk, and what is kept is not asked."""
    size = max(CHUNK, 4 * engine.max_batch) if spec.benchmark.generates else max(1, len(requests))
    starts = range(0, len(requests), size)
    keep = chunks if len(starts) * spec.decoding.repeats > 1 else None
    responses: list[Response] = []
    for i, first in enumerate(starts):
        number = repeat * len(starts) + i
        if keep is not None and (kept := keep.get(number)) is not None:
            responses += map(unpack, kept[0])
            spent.earlier_s += kept[1]
            if on_progress is not None:
                on_progress(len(kept[0]))
            continue
        before = time.perf_counter()
        answers = engine.run(
            model,
            requests[first : first + size],
            decoding=Decoding(spec.decoding.mode, spec.decoding.temperature, spec.decoding.top_p),
            seeds=seeds[first : first + size],
            chat=spec.prompt.chat,
            system=spec.prompt.system,
            on_progress=on_progress,
            on_batch=spent.batch,
        )
        seconds = time.perf_counter() - before
        spent.now_s += seconds
        if keep is not None:
            keep.add(number, [pack(answer) for answer in answers], seconds)
        responses += answers
    return responses


def pack(response: Response) -> list[Any]:
    """A response as JSON can hold it: its class and its fields in order. Floats survive to the last bit."""
    return [type(response).__name__, *(getattr(response, f.name) for f in dataclasses.fields(response))]


def unpack(packed: Sequence[Any]) -> Response:
    """The response that `pack` took apart."""
    kinds: dict[str, Any] = {kind.__name__: kind for kind in (LogLikelihoodResponse, ChoiceResponse, GenerateResponse)}
    fields = [tuple(value) if isinstance(value, list) else value for value in packed[1:]]
    response: Response = kinds[packed[0]](*fields)
    return response


def count_requests(spec: CellSpec, config: Config, info: ModelInfo) -> int:
    """How many requests `compute` will make, for a progress bar."""
    own, beside = select(spec, config, info)
    return spec.decoding.repeats * sum(len(requests_of(spec.benchmark, item)) for item in (*own, *beside))


def _seeds(seed: int, repeat: int, items: Sequence[Item], asked: Sequence[Sequence[Request]]) -> list[int]:
    """One seed per request, from the item's name: the same draw whatever else is asked."""
    return [
        int.from_bytes(hashlib.sha256(f"{seed}/{repeat}/{item.id}/{j}".encode()).digest()[:8], "big") >> 1
        for item, requests in zip(items, asked, strict=True)
        for j in range(len(requests))
    ]


def _rows(
    benchmark: Benchmark,
    items: Sequence[Item],
    asked: Sequence[Sequence[Request]],
    responses: Sequence[Response],
    repeat: int,
) -> list[dict[str, Any]]:
    rows, position = [], 0
    for item, requests in zip(items, asked, strict=True):
        mine = responses[position : position + len(requests)]
        position += len(requests)
        record = record_of(benchmark, item, mine)
        rows.append(
            {
                "item": item.id,
                "cluster": item.cluster,
                "category": item.category,
                "group": item.group,
                "repeat": repeat,
                "score": float(record.score),
                "outcome": record.outcome,
                "refused": record.refused,
                "truth": float(item.truth),
                "prompt_tokens": max(response.prompt_tokens for response in mine),
                "sent": _sent(mine),
                "prompt": "",
                "response": record.response,
                "detail": dict(record.detail),
            }
        )
    return rows


def _sent(responses: Sequence[Response]) -> str:
    """What the item's requests were sent, as one hash: of one request its own, of several that of their hashes."""
    if len(responses) == 1:
        return responses[0].sent
    return hashlib.sha256("".join(response.sent for response in responses).encode()).hexdigest()


def _prompt_texts(
    spec: CellSpec, model: LoadedModel, engine: Engine, items: Sequence[Item], asked: Sequence[Sequence[Request]]
) -> dict[str, str]:
    """Item -> JSON of the texts it is asked with."""
    format = {"chat": spec.prompt.chat, "system": spec.prompt.system}
    return {
        item.id: json.dumps([engine.sent(model, request, **format) for request in requests], ensure_ascii=False)  # type: ignore[arg-type]
        for item, requests in zip(items, asked, strict=True)
    }


def _coverage(frame: pd.DataFrame) -> dict[str, int]:
    counts = frame["outcome"].value_counts()
    return {
        "n_items": int(frame["item"].nunique()),
        "n_records": len(frame),
        "n_valid": int(frame["score"].notna().sum()),
        "n_refused": int(frame["refused"].sum()),
        "n_unparsed": int(counts.get("unparsed", 0)),
        "n_too_long": int(counts.get("too_long", 0)),
    }
