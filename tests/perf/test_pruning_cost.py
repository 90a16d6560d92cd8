"""What pruning costs beside the library's own script, and the memory it needs: `make perf` prints the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from biaslab.accel.calibration import Calibration, calibration_ids
from biaslab.accel.layers import dense_linears
from biaslab.accel.sparsegpt import SparseGpt
from biaslab.accel.wanda import Wanda
from biaslab.models.base import LoadedModel
from tests.accel import tiny
from tests.cli.run import environment

pytestmark = [pytest.mark.perf, pytest.mark.timeout(1200)]

ROWS = Calibration(samples=32, length=128)
SHAPE = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 2}


def theirs(model: LoadedModel, recipe: Any) -> None:
    """llm-compressor's own script, as its documentation has it, from texts that are token ids already."""
    import llmcompressor
    from datasets import Dataset

    rows = calibration_ids(model, ROWS).ids.tolist()
    llmcompressor.oneshot(
        model=model.module,
        tokenizer=model.tokenizer,
        dataset=Dataset.from_list([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]),
        max_seq_length=ROWS.length,
        num_calibration_samples=ROWS.samples,
        shuffle_calibration_samples=False,
        recipe=recipe,
    )


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_pruning_is_no_slower_than_llm_compressors_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modifiers = pytest.importorskip("llmcompressor.modifiers.pruning", reason="needs llmcompressor")
    monkeypatch.chdir(tmp_path)
    tiny.make("llama", **SHAPE).module.config.save_pretrained(tmp_path / "model")  # the script reads it again
    lines = []
    for pruner, modifier, structure in [
        (Wanda(calibration=ROWS), modifiers.WandaPruningModifier, "0:0"),
        (Wanda(pattern="2:4", calibration=ROWS), modifiers.WandaPruningModifier, "2:4"),
        (SparseGpt(calibration=ROWS), modifiers.SparseGPTModifier, "0:0"),
        (SparseGpt(pattern="2:4", calibration=ROWS), modifiers.SparseGPTModifier, "2:4"),
    ]:
        seconds: dict[str, list[float]] = {"native": [], "llm-compressor": []}
        for _ in range(2):  # in turns, so that a busy minute hits both
            for who in seconds:
                model = tiny.make("llama", **SHAPE)
                model.module.config.name_or_path = str(tmp_path / "model")
                recipe = modifier(sparsity=0.5, mask_structure=structure, targets=["Linear"], ignore=["re:.*lm_head"])
                start = time.perf_counter()
                pruner.apply(model, "it") if who == "native" else theirs(model, recipe)
                seconds[who].append(time.perf_counter() - start)
                zeros = [float((m.weight == 0).float().mean()) for m in dense_linears(model.module).values()]
                assert min(zeros) == pytest.approx(0.5, abs=0.001)
        best = {who: min(values) for who, values in seconds.items()}
        ratio = best["native"] / best["llm-compressor"]
        lines.append(f"  {pruner.family:10} {pruner.pattern:6} {best['native']:8.2f} s {best['llm-compressor']:8.2f} s "
                     f"{ratio:6.2f}")  # fmt: skip
        assert ratio <= 1.1, lines[-1]
    with capsys.disabled():
        print(f"\npruning 2 layers of 384 x 1024, {ROWS.samples} rows of {ROWS.length}, load {os.getloadavg()[0]:.1f}")
        print("                        native    llm-compressor  ratio")
        print("\n".join(lines))


MEASURE = """
import gc, json, sys
import torch
torch.set_num_threads(1)
from biaslab.accel.calibration import Calibration
from biaslab.accel.layers import decoder_layers
from biaslab.accel.sparsegpt import SparseGpt
from biaslab.accel.wanda import Wanda
from tests.accel import tiny

def memory(which):
    line = next(line for line in open("/proc/self/status") if line.startswith(which))
    return int(line.split()[1]) * 1024

family = {"wanda": Wanda, "sparsegpt": SparseGpt}[sys.argv[1]]
pruner = family(pattern="2:4", calibration=Calibration(samples=16, length=16))
pruner.apply(tiny.make("llama"), "warm")  # whatever is imported or set up once
model = tiny.make("llama", hidden_size=768, num_attention_heads=12, intermediate_size=2048, num_hidden_layers=6)
layer = sum(p.nbytes for p in decoder_layers(model.module)[1][0].parameters())
ids = torch.zeros(16, 16, dtype=torch.long)
with torch.no_grad():
    model.module(input_ids=ids)
gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # forget the peak of making the model
before = memory("VmRSS")
pruner.apply(model, "it")
more, whole = memory("VmHWM") - before, sum(p.nbytes for p in model.module.parameters())
print(json.dumps({"layer": layer, "model": whole, "more": more}))
"""


@pytest.mark.parametrize("family", ["wanda", "sparsegpt"])
def test_pruning_needs_the_model_and_at_most_two_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str
) -> None:
    # Freed memory goes back at once, so that the peak is what is alive and not what malloc keeps.
    env = environment(MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="0")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, family], capture_output=True, text=True, env=env, cwd=tmp_path, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    layers = found["more"] / found["layer"]
    with capsys.disabled():
        print(f"\n{family}: model {found['model'] / 2**20:.0f} MiB, a layer {found['layer'] / 2**20:.1f} MiB, "
              f"pruning needed {layers:.2f} layers more")  # fmt: skip
    assert layers <= 2
