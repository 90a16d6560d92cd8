"""lm-evaluation-harness's side, in an environment of its own: the same lines, the same answers."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM


def instances(job: dict[str, Any]) -> list[Instance]:
    if job["kind"] == "generate":
        how = {"until": job["stop"], "max_gen_toks": job["new_tokens"], "do_sample": False}
        return [Instance("generate_until", {}, (p, how), i) for i, p in enumerate(job["prompts"])]
    return [Instance("loglikelihood", {}, tuple(pair), i) for i, pair in enumerate(job["pairs"])]


def peak_mib(device: str) -> float:
    """Largest memory of this program, of the allocator on a GPU: getrusage would count the starting process too."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    job: dict[str, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "model" in asked:
            torch.set_num_threads(asked["threads"])
            softmax = {} if asked["dtype"] == "float32" else {"softmax_dtype": "float32"}
            model = HFLM(
                pretrained=asked["model"], device=asked["device"], dtype=asked["dtype"], batch_size=asked["batch_size"],
                add_bos_token=True, **softmax,
            )  # fmt: skip
            device = asked["device"]
            print(json.dumps({"ready": True}), flush=True)
            continue
        job = asked.get("work") or job
        work = instances(job)
        ask = model.generate_until if job["kind"] == "generate" else model.loglikelihood
        wall, cpu = time.perf_counter(), time.process_time()
        found = ask(work, disable_tqdm=True)
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        values = found if job["kind"] == "generate" else [value for value, _ in found]
        print(json.dumps(spent | {"values": values, "peak_mib": peak_mib(device)}), flush=True)


if __name__ == "__main__":
    main()
