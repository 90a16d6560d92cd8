"""Whole lines, as typed, on the embedded models: baselines, resuming, interruption, two processes, failures."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biaslab.models import embedded
from biaslab.results.schema import RECORD_COLUMNS
from tests.cli.run import analysis, biaslab, environment

SMALL = ("benchmark=[planted,planted_answers]", "limit=48")


def cells(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((folder / "outputs" / "results").rglob("cell.json")):
        cell = json.loads(path.read_text())
        found["/".join(path.parts[-5:-1])] = cell
    return found


def ledger(folder: Path) -> dict[str, Any]:
    (path,) = sorted((folder / "outputs" / "sweeps").glob("*/sweep.json"), key=lambda p: p.stat().st_mtime)[-1:]
    return dict(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The mission's line, embedded and small."""
    folder = tmp_path_factory.mktemp("swept")
    ended = biaslab(folder, "-m", "model=tiny_llama,tiny_mistral", "accel=hqq4,wanda50", *SMALL)
    assert ended.code == 0, ended
    assert ended.err == ""
    return folder, ended.out


def test_the_missions_line_computes_every_cell_and_each_baseline_once(swept: tuple[Path, str]) -> None:
    folder, out = swept
    found = cells(folder)
    assert len(found) == 2 * 3 * 2
    assert {(c["model"]["label"], c["accel"]["label"]) for c in found.values()} == {
        (m, a) for m in ("tiny_llama", "tiny_mistral") for a in ("none", "hqq4", "wanda50")
    }
    assert all(cell["attempt"] == 1 for cell in found.values())
    assert out.count("] + ") == 12
    assert ledger(folder)["status"] == "complete"
    assert len(ledger(folder)["cells"]) == 12


def test_it_ends_in_a_report_and_a_verdict_table(swept: tuple[Path, str]) -> None:
    folder, out = swept
    (report,) = (folder / "outputs" / "reports").glob("*/report.html")
    assert str(report.relative_to(folder)) in out
    assert "positive control" in out
    results = json.loads((report.parent / "results.json").read_text())
    verdicts = {(s["model"], s["accel"]): s["verdict"] for s in results["benchmarks"][0]["shifts"]}
    assert verdicts["tiny_mistral", "hqq4"] == "changed"
    assert (report.parent / "tables" / "shifts.csv").is_file()


def test_nothing_appears_outside_outputs(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    assert [path.name for path in folder.iterdir()] == ["outputs"]
    assert sorted(p.name for p in (folder / "outputs").iterdir()) == [
        "accel_cache", "reports", "results", "sweeps",
    ]  # fmt: skip


def test_a_cell_says_where_and_by_which_kernel_it_was_computed(swept: tuple[Path, str]) -> None:
    for cell in cells(swept[0]).values():
        placed = cell["placement"]
        assert (placed["device"], placed["dtype"], placed["kernel"]) == ("cpu", "float32", "sdpa")
        assert placed["needed_bytes"] > 300_000


def test_a_cell_alone_says_how_to_make_it_again(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    cell = next(c for c in cells(folder).values() if c["accel"]["label"] == "wanda50")
    assert "accel=wanda50" in cell["command"]
    assert "model=" in cell["command"]
    assert cell["model"]["identity"].startswith("sha256:")
    assert cell["environment"]["versions"]["torch"]
    assert cell["accel"]["steps"][0]["config"]["calibration"]["seed"] == 0
    assert cell["active"]["max_logit_change"] > 0
    assert 0.49 < cell["efficiency"]["sparsity"] < 0.51
    assert cell["efficiency"]["perplexity"] > 1
    assert cell["coverage"]["n_items"] == 48


def test_records_have_the_published_columns(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    frame = pd.read_parquet(next((folder / "outputs" / "results" / "planted").rglob("records.parquet")))
    assert list(frame.columns) == list(RECORD_COLUMNS)
    assert len(frame) == 48
    assert frame["score"].notna().all()


def test_the_same_line_again_computes_nothing_and_says_so(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("cell.json")}
    ended = biaslab(folder, "-m", "model=tiny_llama,tiny_mistral", "accel=hqq4,wanda50", *SMALL, "analysis=skip")
    assert ended.code == 0
    assert "] + " not in ended.out
    assert "Every cell was complete already: nothing was computed." in ended.out
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("cell.json")} == before


def test_dry_run_prints_the_cells_and_what_is_done(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    ended = biaslab(folder, "-m", "model=tiny_llama", "accel=hqq4,hqq8", *SMALL, "dry_run=true")
    assert ended.code == 0
    assert ended.out.count("complete") == 4
    assert "6 cells, 2 to run; nothing was computed (dry_run=true)" in ended.out


def test_a_record_says_how_the_model_was_asked(swept: tuple[Path, str]) -> None:
    said = {
        (cell["benchmark"]["name"], cell["environment"]["scored"], cell["environment"]["written"])
        for cell in cells(swept[0]).values()
    }
    assert said == {("planted", "packed", None), ("planted_answers", None, "padded")}


def test_profile_tells_where_the_seconds_of_the_cells_went(swept: tuple[Path, str]) -> None:
    folder = swept[0]
    first = min((folder / "outputs" / "sweeps").iterdir(), key=lambda sweep: (sweep / "sweep.json").stat().st_mtime)
    ended = biaslab(folder, "profile", str(first))
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    total = [float(word) for word in next(line for line in lines if line.split()[:1] == ["total"]).split()[1:]]
    timings = [cell["timings"] for cell in cells(folder).values()]
    assert total[-1] == pytest.approx(sum(total[:-1]), abs=0.01)
    assert total[4] + total[5] == pytest.approx(sum(t["engine_s"] for t in timings), abs=0.01)
    assert total[0] == pytest.approx(sum({t["load_s"] for t in timings}), abs=0.01)
    assert all(seconds > 0 for seconds in (*total[:8], total[-1]))
    assert total[8] == 0  # nothing was tracked
    *batches, between = (float(word) for word in [x for x in lines if x.split()[:1] == ["total"]][1].split()[1:])
    assert sum(batches) + between == pytest.approx(total[5], abs=0.01)
    assert min(batches) > 0
    assert between > 0  # with so few items, the trial of ways is most of it
    assert "from the sweep's start to its end" in lines[-1]


def test_status_shows_the_newest_sweep(swept: tuple[Path, str]) -> None:
    folder, _ = swept
    ended = biaslab(folder, "status")
    assert ended.code == 0
    assert "12 cells: 12 complete" in ended.out


def test_a_moved_outputs_folder_has_its_status_and_its_retry(swept: tuple[Path, str], tmp_path: Path) -> None:
    moved = tmp_path / "a big disk" / "out"
    shutil.copytree(swept[0] / "outputs", moved)
    assert "12 cells: 12 complete" in biaslab(tmp_path, "status", str(moved)).out
    lost = next((moved / "results" / "planted").rglob("cell.json")).parent
    shutil.rmtree(lost)
    ended = biaslab(tmp_path, "status", str(moved / "sweeps"))
    assert (ended.code, ended.out.splitlines()[-1]) == (3, "12 cells: 1 missing, 11 complete")
    ended = biaslab(tmp_path, "retry", str(moved))
    assert ended.code == 0, ended
    assert ended.out.count("] + ") == 1
    assert (lost / "cell.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["a big disk"]


def test_force_adds_an_attempt_and_keeps_the_old(swept: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(swept[0] / "outputs", tmp_path / "outputs")
    ended = biaslab(tmp_path, "accel=hqq4", *SMALL, "force=true", "analysis=skip")
    assert ended.code == 0
    attempts = [c["attempt"] for c in cells(tmp_path).values() if c["model"]["label"] == "tiny_llama"]
    assert sorted(attempts) == [1, 1, 1, 1, 1, 1, 2, 2]


def test_a_store_moved_elsewhere_is_still_complete(swept: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(swept[0] / "outputs", tmp_path / "deep" / "other")
    ended = biaslab(tmp_path, "accel=hqq4", *SMALL, "outputs=deep/other", "analysis=skip")
    assert "] + " not in ended.out
    assert "nothing was computed" in ended.out


def test_a_stack_shows_in_the_label_and_keeps_each_steps_facts(tmp_path: Path) -> None:
    line = ("accel=[wanda50,hqq4]", "accel.hqq4.group_size=32", "benchmark=planted", "limit=24", "analysis=skip")
    assert biaslab(tmp_path, *line).code == 0
    (cell,) = (c for c in cells(tmp_path).values() if c["accel"]["kind"] == "accelerated")
    assert cell["accel"]["label"] == "wanda50+hqq4(group_size=32)"
    assert [fact["step"] for fact in cell["accel"]["facts"]] == ["wanda50", "hqq4"]
    assert cell["accel"]["stack"]


STILL = """
from dataclasses import dataclass
from biaslab.accel.base import Accelerator
from biaslab.models.base import Fact

@dataclass
class Still(Accelerator):
    family = "still"
    kind = "pruner"
    summary = "changes nothing"

    def apply(self, model, name):
        model.facts.append(Fact(name, "pruned", {}))
        return model
"""


def test_a_step_that_does_nothing_is_said_and_never_passes(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(STILL)
    line = ("accel=[custom,hqq4]", "accel.custom.target=own.Still", "benchmark=planted", "limit=60")
    ended = biaslab(tmp_path, *line)
    assert ended.code == 0, ended
    assert "60/60 answered" in ended.out
    assert "; still moved no logit (" in ended.out
    (cell,) = (c for c in cells(tmp_path).values() if c["accel"]["kind"] == "accelerated")
    moved = {step["step"]: step["max_logit_change"] for step in cell["active"]["steps"]}
    assert moved["still"] == 0.0
    assert moved["hqq4"] > 1e-3
    (report,) = (tmp_path / "outputs" / "reports").glob("*/results.json")
    assert "still, a step of still+hqq4, moved no logit in the active check (tiny_llama on planted)" in (
        report.read_text()
    )
    gate = analysis(tmp_path, "gate", "margin=9")
    assert gate.code == 5
    assert "still of the stack moved no logit" in gate.out


@pytest.mark.parametrize(
    "accel",
    [
        ("accel=paper_kv4",),  # only writing reads it
        ("accel=kv4", "accel.kv4.residual=120"),  # a window that none of these texts leaves
    ],
)
def test_a_cache_that_no_score_of_a_cell_reads_is_inert_there(tmp_path: Path, accel: tuple[str, ...]) -> None:
    ended = biaslab(tmp_path, *accel, "benchmark=planted", "limit=30")
    assert ended.code == 0, ended
    assert "moved no logit (inert)" in ended.out
    assert "∅ inert" in ended.out
    gate = analysis(tmp_path, "gate", "margin=9")
    assert (gate.code, gate.out.splitlines()[-1].partition(":")[0]) == (5, "CANNOT TELL")


def test_interrupted_in_mid_cell_exits_130_and_the_same_line_goes_on(tmp_path: Path) -> None:
    line = ["accel=hqq4", "benchmark=[planted_answers,planted,planted_choices]", "analysis=skip"]
    process = subprocess.Popen(
        [sys.executable, "-m", "biaslab", *line], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("[1/6] + ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same line goes on from there" in err
    assert "Traceback" not in err
    before = cells(tmp_path)
    assert 1 <= len(before) < 6
    assert ledger(tmp_path)["status"] == "interrupted"
    ended = biaslab(tmp_path, *line)
    assert ended.code == 0
    after = cells(tmp_path)
    assert len(after) == 6
    assert all(after[name] == cell for name, cell in before.items())
    assert ended.out.count("] + ") == 6 - len(before)


def test_two_processes_on_the_same_line_compute_each_cell_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "biaslab", "accel=hqq4", *SMALL, "analysis=skip"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment(), **pipes) for _ in range(2)]
    ended = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sum(out.count("] + ") for out, _ in ended) == 4
    assert [cell["attempt"] for cell in cells(tmp_path).values()] == [1] * 4


@pytest.mark.data
def test_a_broken_model_fails_its_cells_on_record_and_the_sweep_goes_on(tmp_path: Path, data_dir: Path) -> None:
    """NaN weights: the cells fail with their reason, the other model's cells are there, exit code 3."""
    import torch
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(embedded.folder("tiny_llama"), broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    line = ("model=local", f"model.path={broken}", "benchmark=crows_pairs", "limit=4", "accel=none")
    ended = biaslab(tmp_path, *line, env={"BIASLAB_DATA_DIR": str(data_dir)})
    assert ended.code == 3, ended
    assert "NaN or infinite logits" in ended.err
    assert "run the same line again: python -m biaslab model=local" in ended.err
    (path,) = tmp_path.rglob("failure.json")
    failure = json.loads(path.read_text())
    assert "CellFailed" in failure["traceback"]
    assert "Traceback" not in ended.err
    good = biaslab(tmp_path, "benchmark=crows_pairs", "limit=4", "accel=none", env={"BIASLAB_DATA_DIR": str(data_dir)})
    assert good.code == 0, good
    assert biaslab(tmp_path, "status").code == 0


def test_some_refused_jobs_do_not_stop_the_others(tmp_path: Path) -> None:
    ended = biaslab(
        tmp_path, "-m", "model=tiny_llama,llama", "accel=none", "benchmark=planted", "limit=8", "analysis=skip"
    )
    assert ended.code == 3
    assert "refused: " in ended.err
    assert len(cells(tmp_path)) == 1
    states = {cell["model"]: cell["state"] for cell in ledger(tmp_path)["cells"]}
    assert states == {"tiny_llama": "complete", "llama": "refused"}


def test_no_refused_cell_hides_another(tmp_path: Path) -> None:
    """Decodings, seeds and changed fields are cells of their own where they are refused, as where they run."""
    planned = {}
    for accel in ("hqq4", "ao_fp8"):  # the second needs a GPU
        ended = biaslab(
            tmp_path, "-m", f"accel=kv8,{accel}", "seed=0,1", "decoding=greedy,sampled5", "device=cpu",
            "benchmark=[planted,planted_answers]", "dry_run=true",
        )  # fmt: skip
        assert ended.code == 0, ended
        rows = [line for line in ended.out.splitlines() if line.split()[1] == accel]
        assert all((" refused: " in row) == (accel == "ao_fp8") for row in rows)
        planned[accel] = sorted(row.split(" refused: ")[0].split(" to run ")[0].split()[2:] for row in rows)
    assert planned["ao_fp8"] == planned["hqq4"]
    assert len(planned["hqq4"]) == 6
    ended = biaslab(tmp_path, "-m", "accel=kv4", "accel.kv4.group_size=0,32,64", "benchmark=planted", "dry_run=true")
    assert ended.out.count(" refused: accel=kv4 ") == 2
    assert "4 cells, 2 to run" in ended.out


def test_sampled_answers_are_repeats_of_their_own_and_scored_requests_are_not(tmp_path: Path) -> None:
    line = (*SMALL, "accel=none", "decoding.mode=sampled", "decoding.repeats=3", "analysis=skip")
    assert biaslab(tmp_path, *line).code == 0
    found = {c["benchmark"]["name"]: c for c in cells(tmp_path).values()}
    assert found["planted_answers"]["coverage"]["n_records"] == 3 * 48
    assert found["planted"]["coverage"]["n_records"] == 48
    frame = pd.read_parquet(next((tmp_path / "outputs").glob("results/planted_answers/**/records.parquet")))
    wide = frame.pivot_table(index="item", columns="repeat", values="outcome", aggfunc="first")
    assert (wide[0] != wide[1]).any()
