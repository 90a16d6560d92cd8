"""What a sweep costs in GPU hours: requests and tokens counted on the real files, speeds assumed and said so.

    BIASLAB_DATA_DIR=... python -m tests.reliability.cost docs/scale.md [FIELD=VALUE ...]

The fields are those of `Assumed`. Every benchmark's own items and requests are rendered and encoded as the engine
does it; then 2 x parameters operations a prefilled token (a forward's multiplications and additions; attention's
own are left out) and a rate of decoded tokens turn tokens into hours.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from biaslab.benchmarks import registry
from biaslab.benchmarks.bbq import FILES
from biaslab.benchmarks.global_opinion_qa import N_QUESTIONS
from biaslab.benchmarks.sources import is_here
from biaslab.engine.choices import choice_spans
from biaslab.engine.prompts import Renderer
from biaslab.engine.requests import Choice, Generate, Request
from biaslab.engine.scoring import rows_of
from biaslab.models.base import ModelInfo
from tests.perf.side_by_side.folders import train_tokenizer

PAPER = ("crows_pairs", "discrim_eval", "discrim_eval_gen", "dt_stereotyping", "global_opinion_qa", "worldbench")
FIELD = ("bbq", "bold", "holisticbias", "redditbias", "winobias")
#: The twelfth, DiscrimEval's implicit half, has as many prompts of the same making; its file is counted as this one.
TWELFTH = "discrim_eval"
#: BBQ's items in all categories (rows of its published files, less the 16 without a target).
BBQ_ITEMS = 58_476
#: Parameters of the paper's models, from their model cards.
MODELS = {"Llama-3.1-8B-Instruct": 8.03e9, "Llama-2-7b-chat": 6.74e9, "Mistral-7B-Instruct-v0.3": 7.25e9}
START, END = "<!-- cost: written by tests/reliability/cost.py -->", "<!-- end of cost -->"


@dataclass(frozen=True)
class Assumed:
    """What is assumed and not measured. Put in what your own GPU does.

    flops : floating-point operations a second that a GPU achieves in prefilling.
    decode : tokens a second that a GPU generates in batches, of a model of `decode_at` parameters; in inverse
        proportion for others.
    arm_s : seconds to load a model and accelerate it, once an arm (model and condition).
    share : part of the tokens allowed that an answer takes; 1: every answer runs to its limit.
    parameters : of a model of the grid of a hundred.
    """

    flops: float = 1e14
    decode: float = 1000.0
    decode_at: float = 8e9
    arm_s: float = 600.0
    share: float = 1.0
    parameters: float = 8e9


@dataclass(frozen=True)
class Count:
    """One greedy cell's work. Scored prompts are prefilled once, generating ones in every run.

    requests : different ones where they are scored (equal ones are asked once), all where text is generated.
    scored : tokens prefilled when every row is forwarded whole; packed : when rows share their beginnings.
    prompts : tokens of prompts that are answered in free text; allowed : tokens those answers may take.
    """

    requests: int
    scored: int
    packed: int
    prompts: int
    allowed: int


@dataclass(frozen=True)
class Hours:
    """GPU hours. padded, packed : prefilling by rows forwarded whole, or sharing their beginnings."""

    padded: float
    packed: float
    decode: float
    arms: float


def count(requests: Sequence[Request], renderer: Renderer) -> Count:
    """Requests and tokens of one greedy cell."""
    written = [r for r in requests if isinstance(r, Generate)]
    spans = []
    asked = dict.fromkeys(r for r in requests if not isinstance(r, Generate))
    for request in asked:
        if isinstance(request, Choice):
            spans += choice_spans(renderer, request)
        else:
            spans.append(renderer.span(request.context, request.continuation))
    rows = sorted(row.ids for row in rows_of(spans, range(len(spans))))
    shared = sum(_shared(a, b) for a, b in pairwise(rows))
    scored = sum(map(len, rows))
    return Count(
        len(asked) + len(written),
        scored,
        scored - shared,
        sum(len(renderer.prompt_ids(r.prompt)) for r in written),
        sum(r.max_new_tokens for r in written),
    )


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def hours(counts: Iterable[Count], models: Iterable[float], arms: int, runs: int, assumed: Assumed) -> Hours:
    """GPU hours of `counts` asked of every model (its parameters) in `arms` conditions; `runs` of free text."""
    padded = packed = decode = prepare = 0.0
    work = list(counts)
    for parameters in models:
        second = arms * 2 * parameters / assumed.flops
        again = sum(runs * c.prompts for c in work)
        padded += second * (again + sum(c.scored for c in work))
        packed += second * (again + sum(c.packed for c in work))
        new = assumed.share * runs * sum(c.allowed for c in work)
        decode += arms * new * (parameters / assumed.decode_at) / assumed.decode
        prepare += arms * assumed.arm_s
    return Hours(padded / 3600, packed / 3600, decode / 3600, prepare / 3600)


def real_requests(name: str) -> tuple[list[Request], int, int]:
    """All requests of a benchmark on the files that are here, references among them; its units here and in all.

    Where the files are a part of the published ones, the units are BBQ's items and GlobalOpinionQA's questions.
    """
    info = ModelInfo("counted", "embedded", "sha256:0", "", "LlamaForCausalLM", {})
    benchmark = registry()[name](**({"categories": bbq_here()} if name == "bbq" else {}))
    items = benchmark.items(info)
    asked = (*items, *benchmark.references(items, None))
    if name == "bbq":
        here, whole = len(items), BBQ_ITEMS
    elif name == "global_opinion_qa":
        here, whole = len({item.data["row"] for item in asked}), N_QUESTIONS
    else:
        here, whole = 1, 1
    return [request for item in asked for request in benchmark.requests(item)], here, whole


def bbq_here() -> list[str]:
    """BBQ's categories whose files are here."""
    return [category for category, file in FILES.items() if is_here(file)]


def scaled(count: Count, n_found: int, n_all: int) -> Count:
    """The count of `n_all` items of which `n_found` were counted, in proportion."""
    return Count(*(round(value * n_all / n_found) for value in dataclasses.astuple(count)))


def counted() -> tuple[dict[str, Count], float]:
    """Every benchmark's count, and the characters that a token of their prompts stands for."""
    asked = {name: real_requests(name) for name in (*PAPER, *FIELD)}
    texts = [text for some, *_ in asked.values() for text in list(dict.fromkeys(map(_text, some)))[:2000]]
    tokenizer = train_tokenizer(texts)
    per_token = sum(map(len, texts)) / sum(len(ids) for ids in tokenizer(texts)["input_ids"])
    counts = {}
    for name, (requests, here, whole) in asked.items():
        title = f"{registry()[name]().label()}" + (f" ({here:,} of {whole:,} here)" if here < whole else "")
        counts[title] = scaled(count(requests, Renderer(tokenizer, chat=False, system="")), here, whole)
        print(title, counts[title], flush=True)
    return counts, per_token


def _text(request: Request) -> str:
    if isinstance(request, Generate | Choice):
        return f"{request.prompt.system} {request.prompt.user}"
    return f"{request.context.user}{request.continuation}"


def page(counts: Mapping[str, Count], per_token: float, assumed: Assumed) -> str:
    """The two tables, and what they rest on."""
    rows = [
        [name, *(f"{value:,}" for value in dataclasses.astuple(count))] for name, count in counts.items()
    ]  # fmt: skip
    paper = list(counts.values())[: len(PAPER)]
    twelve = [*counts.values(), paper[PAPER.index(TWELFTH)]]
    many = [assumed.parameters] * 100
    grids = {
        "the paper's: 3 models x 8 conditions x 6 benchmarks, greedy and 5 samples": (paper, MODELS.values(), 8, 6),
        "the same, greedy alone": (paper, MODELS.values(), 8, 1),
        "100 models x 20 accelerators and the baseline x 12 benchmarks, greedy": (twelve, many, 21, 1),
        "the same, greedy and 5 samples": (twelve, many, 21, 6),
    }
    table = []
    for name, (work, models, arms, runs) in grids.items():
        h = hours(work, models, arms, runs, assumed)
        table.append([name, *(f"{x:,.0f}" for x in dataclasses.astuple(h))])
        table[-1] += [f"**{h.packed + h.decode + h.arms:,.0f} to {h.padded + h.decode + h.arms:,.0f}**"]
    return "\n\n".join((
        _markdown(["", "requests", "scored: tokens, rows whole", "rows sharing beginnings", "free text: prompts",
                   "answers, at most"], rows),
        f"Counted on the real files, default configuration, plain prompts, with a tokenizer of 8,192 pieces trained "
        f"on these very prompts ({per_token:.1f} characters a token; `tests/perf/side_by_side/folders.py`): a real "
        f"model's own will differ. A benchmark of which only a part is here is counted on that part and put in "
        f"proportion; a reconstruction shows in the name.",
        _markdown(["GPU hours", "prefill, rows whole", "prefill, shared", "decode", "load, accelerate", "in all"],
                  table),
        f"**Assumed, not measured**: {assumed.flops:.3g} floating-point operations a second achieved in prefilling, "
        f"at 2 x parameters a token (`flops`); {assumed.decode:,.0f} tokens a second generated in batches by a model "
        f"of {assumed.decode_at / 1e9:g} billion parameters, in inverse proportion for others (`decode`, "
        f"`decode_at`); {assumed.arm_s:,.0f} s to load and accelerate a model, once for all its benchmarks (`arm_s`); "
        f"answers take {assumed.share:.0%} of the tokens they may (`share`); {assumed.parameters / 1e9:g} billion "
        f"parameters for each of the 100 models (`parameters`); "
        f"{', '.join(f'{m} {p / 1e9:.2f} billion' for m, p in MODELS.items())}. Every accelerator is taken to be as "
        f"fast as the baseline. Where an arm cannot be asked in packs, its rows are forwarded whole. The twelve "
        f"benchmarks are those above and DiscrimEval's implicit half, counted as the explicit one. No sweep of this "
        f"size was run.",
    ))  # fmt: skip


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)])


def main(argv: Sequence[str]) -> int:
    """Count, and put the tables into the document between its two marks."""
    changed: dict[str, Any] = {k: float(v) for k, v in (word.split("=", 1) for word in argv[1:])}
    text = page(*counted(), Assumed(**changed))
    print(text)
    path = Path(argv[0])
    old = path.read_text(encoding="utf-8")
    if START not in old or END not in old:
        raise ValueError(f"{path}: no marks to write between")
    before, after = old.split(START)[0], re.split(re.escape(END), old)[1]
    path.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
