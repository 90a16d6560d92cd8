"""Whole lines as they are typed: biaslab and the peer's own command on the same sentence pairs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.cli.run import environment
from tests.perf.side_by_side.works import Work

TASK = """\
task: {name}
dataset_path: csv
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[more, less]}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}]
metadata: {{version: 1.0}}
"""


def write(folder: Path, name: str, work: Work) -> Path:
    """Pairs of sentences as a file of biaslab's benchmark=pairs, and a task of the peer over the same file."""
    texts = [text for _, text in work["pairs"]]
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("more", "less"), *zip(texts[::2], texts[1::2], strict=True)])
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, file=path), encoding="utf-8")
    return path


def ours(model: Path, files: Sequence[Path], folder: Path) -> float:
    """CPU seconds of one biaslab process that scores every file; results below `folder`."""
    words = [
        "model=local", f"model.path={model}", "accel=none", "benchmark=pairs", "benchmark.pairs.estimate=sum",
        "benchmark.pairs.file=" + ",".join(map(str, files)), f"outputs={folder}", "analysis=skip", "tracker=none",
        "device=cpu", "dtype=float32",
    ]  # fmt: skip
    return _seconds([sys.executable, "-m", "biaslab", *(["-m"] if len(files) > 1 else []), *words], folder)


def theirs(peer: str, model: Path, files: Iterable[Path], folder: Path) -> float:
    """CPU seconds of the peer's own command, one run a file; samples below `folder`."""
    return sum(
        _seconds(
            [
                peer, "-m", "lm_eval", "run", "--model", "hf",
                "--model_args", f"pretrained={model},dtype=float32,add_bos_token=True",
                "--tasks", file.stem, "--include_path", str(file.parent), "--batch_size", "32", "--device", "cpu",
                "--output_path", str(folder), "--log_samples",
            ],
            folder,
        )
        for file in files
    )  # fmt: skip


def our_scores(folder: Path) -> dict[str, list[float]]:
    """File name -> log p of each more sentence minus that of the less, in the file's order."""
    import pandas as pd

    found = {}
    for path in folder.rglob("cell.json"):
        name = Path(json.loads(path.read_text())["benchmark"]["config"]["file"]).stem
        records = pd.read_parquet(path.parent / "records.parquet")
        found[name] = [float(x) for x in records["score"]]
    return found


def their_scores(folder: Path) -> dict[str, list[float]]:
    """The same of the peer's samples."""
    found = {}
    for path in folder.rglob("samples_*.jsonl"):
        samples = sorted(map(json.loads, path.read_text(encoding="utf-8").splitlines()), key=lambda s: s["doc_id"])
        pairs = [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples]
        found[path.stem.split("_")[1]] = [more - less for more, less in pairs]
    return found


def _seconds(command: Sequence[str], folder: Path) -> float:
    """CPU seconds of a process and its children, on one thread; AssertionError with its words if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    env = environment(HF_DATASETS_OFFLINE="1", HF_DATASETS_CACHE=str(folder / "datasets"), CUDA_VISIBLE_DEVICES="")
    before = os.times()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env, timeout=600)
    after = os.times()
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return after.children_user + after.children_system - before.children_user - before.children_system
