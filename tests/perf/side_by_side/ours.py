"""biaslab's side: reads one job a line, answers with processor seconds and what was scored."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.engine.core import Engine, spans_of
from biaslab.engine.prompts import Renderer, tokenize_seconds
from biaslab.engine.requests import Decoding, Generate, LogLikelihood, Prompt, Request
from biaslab.models.base import LoadedModel
from biaslab.models.loading import describe_local, load
from tests.perf.side_by_side import floor

if TYPE_CHECKING:
    import torch

#: Kinds of work by the names of torch's operators; what is in none of them is small operators.
KINDS = {
    "matrix products": ("mkldnn::_linear_pointwise", "aten::addmm", "aten::mm", "aten::bmm", "aten::linear"),
    "log-softmax": ("aten::_log_softmax", "aten::logsumexp"),
    "attention": ("scaled_dot_product", "_flash_attention", "_efficient_attention"),
}


def requests(job: dict[str, Any]) -> list[Request]:
    if job["kind"] == "generate":
        return [Generate(Prompt(p, bare=True), job["new_tokens"], tuple(job["stop"])) for p in job["prompts"]]
    return [LogLikelihood(Prompt(context, bare=True), text) for context, text in job["pairs"]]


def peak_mib(device: torch.device) -> float:
    """Largest memory of this program, of the allocator on a GPU: getrusage would count the starting process too."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def answer(model: LoadedModel, job: dict[str, Any], engine: dict[str, Any]) -> dict[str, Any]:
    """One round of the work; `exact` among the engine's settings asks in float32, with the weights as they are."""
    model.tokenizer = type(model.tokenizer).from_pretrained(model.info.path)  # nothing kept from the round before
    work = requests(job)
    if engine.pop("exact", False):
        import torch

        model = dataclasses.replace(model, module=copy.deepcopy(model.module).float(), dtype=torch.float32)
    wall, cpu = time.perf_counter(), time.process_time()
    found = Engine(**engine).run(model, work, decoding=Decoding())
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    values = [getattr(r, "logprob_sum", None) if job["kind"] == "score" else r.text for r in found]  # type: ignore[union-attr]
    return spent | {"values": values, "way": model.asked, "peak_mib": peak_mib(model.device)}


def least(model: LoadedModel, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds that the work's arithmetic takes at the rate of this moment."""
    renderer = Renderer(model.tokenizer, chat=False, system="")
    spans = [span for request in requests(job) for span in spans_of(renderer, request)]
    flop, seconds = floor.least(model, spans)
    return {"floor_s": seconds, "gflop": flop / 1e9, "gflop_per_s": flop / seconds / 1e9}


def profile(model: LoadedModel, job: dict[str, Any]) -> dict[str, float]:
    """Shares of one more round's time by kind of work, from torch's own profiler."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    with watch(activities=[ProfilerActivity.CPU]) as seen:
        spent = answer(model, job, {})
    shares = dict.fromkeys((*KINDS, "small operators"), 0.0)
    for event in seen.key_averages():
        if "::" in event.key:
            kind = next((k for k, names in KINDS.items() if any(n in event.key for n in names)), "small operators")
            shares[kind] += event.self_cpu_time_total / 1e6 / spent["wall"]
    shares["tokenizer"] = tokenize_seconds(model.tokenizer) / spent["wall"]
    shares["Python and the rest"] = 1 - sum(shares.values())
    return shares


def main() -> None:
    import torch

    job: dict[str, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "model" in asked:
            torch.set_num_threads(asked["threads"])
            model = load(describe_local(asked["model"], "timed"), device=asked["device"], dtype=asked["dtype"])
            found: dict[str, Any] = {"ready": True}
        elif asked.get("what") == "floor":
            found = least(model, job)
        elif asked.get("what") == "profile":
            found = profile(model, job)
        else:
            job = asked.get("work") or job
            found = answer(model, job, asked.get("engine", {}))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
