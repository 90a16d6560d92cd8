"""biaslab's side: reads one job a line, answers with processor seconds and what was scored."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from biaslab.engine.core import Engine
from biaslab.engine.requests import Decoding, Generate, LogLikelihood, Prompt, Request
from biaslab.models.loading import describe_local, load


def requests(job: dict[str, Any]) -> list[Request]:
    if job["kind"] == "generate":
        return [Generate(Prompt(p, bare=True), job["new_tokens"], tuple(job["stop"])) for p in job["prompts"]]
    return [LogLikelihood(Prompt(context, bare=True), text) for context, text in job["pairs"]]


def peak_mib() -> float:
    """Largest resident set of this program: getrusage would count what the starting process had, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    import torch

    job: dict[str, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "model" in asked:
            torch.set_num_threads(asked["threads"])
            model = load(describe_local(asked["model"], "timed"), device="cpu", dtype=asked["dtype"])
            print(json.dumps({"ready": True}), flush=True)
            continue
        job = asked.get("work") or job
        model.tokenizer = type(model.tokenizer).from_pretrained(model.info.path)  # nothing kept from the round before
        work = requests(job)
        wall, cpu = time.perf_counter(), time.process_time()
        found = Engine().run(model, work, decoding=Decoding())
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        values = [getattr(r, "logprob_sum", None) if job["kind"] == "score" else r.text for r in found]  # type: ignore[union-attr]
        peak = peak_mib()
        print(json.dumps(spent | {"values": values, "way": model.asked, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
