"""Loading beside plain from_pretrained, and what tracking adds to a line: `make perf` prints both."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from biaslab.models.loading import describe_local, load
from tests.cli.run import biaslab
from tests.models.make import make_folder

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1200)]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def large(path: Path) -> Path:
    """A folder of some 120 million weights (480 MB), with the tokenizer of a small one."""
    import torch
    import transformers

    make_folder(path, "llama")
    config = transformers.LlamaConfig(
        vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=10, num_attention_heads=12
    )
    with torch.random.fork_rng(devices=[]):
        transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


def test_loading_is_no_slower_than_from_pretrained(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = large(tmp_path / "large")
    info = describe_local(str(folder))

    def plain() -> None:
        AutoTokenizer.from_pretrained(folder, local_files_only=True)
        AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()

    def ours() -> None:
        load(info, device="cpu", dtype="float32")

    plain(), ours()  # the files are in the system's cache, the libraries are imported
    pairs = [(seconds(plain), seconds(ours)) for _ in range(9)]
    best = [min(column) for column in zip(*pairs, strict=True)]
    middle = statistics.median(b / a for a, b in pairs)
    print(f"\nloading {os.path.getsize(folder / 'model.safetensors') / 1e6:.0f} MB, load {os.getloadavg()[0]:.1f}")
    print(f"  from_pretrained  {best[0]:7.3f} s\n  biaslab          {best[1]:7.3f} s   median ratio {middle:.3f}")
    assert min(middle, best[1] / best[0]) < 1.05


def test_tracking_offline_adds_less_than_half_a_second_a_cell(tmp_path: Path) -> None:
    line = ("-m", "model=tiny_llama,tiny_mistral", "accel=hqq4,wanda50", "limit=48")
    walls = {}
    for name, env in (("none", {"WANDB_MODE": "disabled"}), ("wandb", {"WANDB_MODE": "offline"})):
        times = []
        for repeat in range(3):
            folder = tmp_path / f"{name}{repeat}"
            folder.mkdir()
            start = time.perf_counter()
            ended = biaslab(folder, *line, env=env, timeout=300)
            times.append(time.perf_counter() - start)
            assert ended.code == 0, ended
        walls[name] = min(times)
        cells = len(list((folder / "outputs" / "results").rglob("cell.json")))
    runs = list((folder / "outputs" / "wandb").glob("offline-run-*/*.wandb"))
    added = (walls["wandb"] - walls["none"]) / cells
    print(f"\n{cells} cells, load {os.getloadavg()[0]:.1f}: {json.dumps(walls)}, {added:.3f} s a cell")
    assert len(runs) == cells + 6 + 2  # and the arms, the sweep, the analysis
    assert added < 0.5
