"""W&B runs of a real sweep: what is in them, and that no server can cost a result or more than seconds."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from biaslab.tracking.base import TrackerConfig
from biaslab.tracking.runs import flatten
from biaslab.tracking.seconds import tracked_seconds
from biaslab.tracking.tables import dashboard_rows
from biaslab.tracking.wandb import WandbTracker
from tests.cli.run import ROOT, Ended, biaslab, environment
from tests.tracking.recorder import KEY, Artifact, Recorder, Run, serve

SECRET = "hf_" + "s" * 34
LINE = (
    "accel=hqq4",
    "benchmark=[planted,planted_answers]",
    "limit=24",
    "tracker.table_rows=10",
    "tracker.timeout_s=60",
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended, Recorder]:
    """One line tracked online, with a secret in its environment."""
    folder = tmp_path_factory.mktemp("tracked")
    with serve() as server:
        ended = biaslab(folder, *LINE, env=server.env(HF_TOKEN=SECRET))
    assert ended.code == 0, ended
    return folder, ended, server


def cells(folder: Path) -> dict[tuple[str, str], Path]:
    found = {}
    for path in (folder / "outputs" / "results").rglob("cell.json"):
        cell = json.loads(path.read_text())
        found[cell["accel"]["label"], cell["benchmark"]["name"]] = path.parent
    return found


def run_of(server: Recorder, accel: str, benchmark: str) -> Run:
    return named(server, f"tiny_llama {accel} {benchmark}")


def named(server: Recorder, title: str) -> Run:
    (run,) = [run for run in server.runs.values() if run.display_name == title]
    return run


def of_job(server: Recorder, job: str) -> list[Run]:
    return [run for run in server.runs.values() if run.job_type == job]


def value(run: Any, key: str) -> Any:
    return run.config[key]["value"]


def test_every_cell_and_the_analysis_is_a_run_of_the_sweeps_group(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, ended, server = swept
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    assert server.unknown == []
    assert {(r.group, r.complete, r.exit_code) for r in server.runs.values()} == {(sweep.name, True, 0)}
    assert sorted(r.job_type for r in server.runs.values()) == ["analysis", "arm", "arm", *["cell"] * 4, "sweep"]
    assert ended.out.rstrip().splitlines()[-1] == (
        f"W&B: 8 runs sent, group {sweep.name} at {server.url}/{server.entity}/biaslab"
    )
    assert ended.err == ""


def test_a_cells_run_has_its_config_metrics_with_intervals_and_efficiency(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, _, server = swept
    for (accel, benchmark), path in cells(folder).items():
        cell, run = json.loads((path / "cell.json").read_text()), run_of(server, accel, benchmark)
        assert value(run, "benchmark") == {
            k: v for k, v in cell["benchmark"].items() if v != {}
        }  # W&B drops empty ones
        assert value(run, "accel")["steps"] == cell["accel"]["steps"]
        assert value(run, "identity") == cell["identity"]
        assert {"tiny_llama", accel, benchmark} <= set(run.tags)
        for name, metric in cell["metrics"].items():
            for part in ("value", "ci_low", "ci_high"):
                if metric.get(part) is not None:
                    assert run.summary[f"metrics/{name}/{part}"] == pytest.approx(metric[part]), (name, part)
        assert run.summary["efficiency/perplexity"] == pytest.approx(cell["efficiency"]["perplexity"])
        assert run.summary["coverage/n_records"] == cell["coverage"]["n_records"]


def test_the_seconds_of_each_cells_runs_are_kept_for_profile(swept: tuple[Path, Ended, Recorder]) -> None:
    (sweep,) = (swept[0] / "outputs" / "sweeps").iterdir()
    cells = {path.parent.name for path in (swept[0] / "outputs" / "results").rglob("cell.json")}
    seconds = tracked_seconds(sweep)
    assert seconds.keys() == cells
    assert all(0 < value < 100 for value in seconds.values())


def test_the_records_table_is_cut_evenly_and_says_so(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, _, server = swept
    path = cells(folder)["hqq4", "planted"]
    run = run_of(server, "hqq4", "planted")
    records = pq.read_table(path / "records.parquet").to_pandas()
    (table,) = [json.loads(data) for name, data in run.files.items() if "records" in name]
    n = len(records)
    assert run.summary["records/n"] == n > 10
    assert run.summary["records/n_shown"] == 10
    assert [row[table["columns"].index("item")] for row in table["data"]] == [
        records["item"][i * n // 10] for i in range(10)
    ]


def made_by(server: Recorder, run: Run) -> list[Artifact]:
    return [a for a in server.artifacts.values() if a.run == run.name and a.kind != "run_table"]


def test_records_and_report_are_artifacts(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, _, server = swept
    assert all(a.committed for a in server.artifacts.values())
    for (accel, benchmark), path in cells(folder).items():
        (records,) = made_by(server, run_of(server, accel, benchmark))
        assert (records.kind, records.name) == ("records", f"cell-{path.name[:16]}")
        assert records.files == {name: (path / name).read_bytes() for name in ("cell.json", "records.parquet")}
    (report,) = made_by(server, of_job(server, "analysis")[0])
    assert report.kind == "report"
    assert {"report.html", "results.json", "tables/shifts.csv"} <= set(report.files)


def test_model_accelerated_model_records_and_report_are_one_graph(swept: tuple[Path, Ended, Recorder]) -> None:
    """Who made each artifact, and who used it, as the server came to know it."""
    folder, _, server = swept
    accelerated = {(c["accel"]["label"]): c for c in map(read_cell, cells(folder).values())}["hqq4"]
    model, arm = named(server, "tiny_llama none"), named(server, "tiny_llama hqq4")
    assert [(a.name, a.kind) for a in made_by(server, model)] == [("model-tiny_llama", "model")]
    assert (model.used, arm.used) == ([], ["model-tiny_llama"])
    (made,) = made_by(server, arm)
    assert (made.name, made.kind) == ("accelerated-tiny_llama-hqq4", "accelerated-model")
    assert made.metadata["facts"] == accelerated["accel"]["facts"]
    assert json.loads(made.files["accelerated.json"])["accel"] == accelerated["accel"]["steps"]
    for accel, benchmark in cells(folder):
        source = {"none": "model-tiny_llama", "hqq4": "accelerated-tiny_llama-hqq4"}[accel]
        assert run_of(server, accel, benchmark).used == [source]
    (analysis,) = of_job(server, "analysis")
    assert sorted(analysis.used) == sorted(f"cell-{path.name[:16]}" for path in cells(folder).values())
    versions = [a.name for a in server.artifacts.values() if a.kind != "run_table"]
    assert len(versions) == len(set(versions)) == 1 + 1 + 4 + 1  # each of them once, however many runs use it
    assert not any(name.endswith(".safetensors") for a in server.artifacts.values() for name in a.files)


def read_cell(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "cell.json").read_text()))


def test_the_sweeps_own_run_tells_its_progress(swept: tuple[Path, Ended, Recorder]) -> None:
    _, _, server = swept
    (run,) = of_job(server, "sweep")
    assert run.summary["status"] == "complete"
    assert {key: run.summary[f"cells/{key}"] for key in ("all", "complete", "failed")} == {
        "all": 4,
        "complete": 4,
        "failed": 0,
    }
    rows = [run.history[i] for i in sorted(run.history)]
    assert [row["progress/complete"] for row in rows] == [1, 2, 3, 4]
    minutes = [row["progress/minutes"] for row in rows]
    assert 0 < minutes[0] <= minutes[-1] < 5


def test_the_analysis_run_shows_report_tables_and_verdicts(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, _, server = swept
    (results,) = (folder / "outputs" / "reports").glob("*/results.json")
    study = json.loads(results.read_text())
    (run,) = [r for r in server.runs.values() if r.job_type == "analysis"]
    assert run.summary["answer"] == study["answer"]
    for b in study["benchmarks"]:
        assert run.summary[f"verdict/{b['name']}"] == b["verdict"]
        assert run.summary[f"verdict/{b['name']}/sentence"] == b["sentence"]
    names = set(run.files)
    assert any(name.startswith("media/html/report") for name in names)
    assert any(name.startswith("media/table/tables/shifts") for name in names)
    figures = [path.stem for path in (results.parent / "figures").glob("*.png")]
    assert len(figures) >= 4
    assert all(any(name.startswith(f"media/images/figures/{figure}_") for name in names) for figure in figures)


def test_no_secret_is_written_or_sent(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, _, server = swept
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET.encode() not in data, path
            assert KEY.encode() not in data, path
    sent = repr(server.runs) + repr(server.artifacts)
    assert SECRET not in sent
    assert KEY not in sent


def test_nothing_is_written_outside_outputs(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, _, _ = swept
    assert [path.name for path in folder.iterdir()] == ["outputs"]


BROKEN = """
import os
from dataclasses import dataclass
from typing import ClassVar
from biaslab.accel.base import Accelerator

@dataclass
class Broken(Accelerator):
    family: ClassVar[str] = "broken"
    kind: ClassVar[str] = "pruner"
    summary: ClassVar[str] = "fails, and says what it should not"

    def unsupported(self, model, device):
        return None

    def apply(self, model, name):
        said = os.environ["HF_TOKEN"] + "\\nof " + os.environ["SOME_PASSWORD"]
        raise RuntimeError("refused:\\n401 for token " + said)
"""


def test_a_failed_cell_is_a_failed_run_with_its_reason_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    secrets = {"HF_TOKEN": SECRET, "SOME_PASSWORD": "correct horse battery"}
    line = ("accel=custom", "accel.custom.target=mine.Broken", "benchmark=planted", "limit=12", "tracker.timeout_s=60")
    with serve() as server:
        ended = biaslab(tmp_path, *line, env=server.env(**secrets, PYTHONPATH=f"{tmp_path}:{ROOT}"))
    assert ended.code == 3, ended
    assert server.unknown == []
    assert re.search(r"^W&B: \d+ runs sent", ended.out, re.MULTILINE)
    (run,) = [run for run in of_job(server, "cell") if "failed" in run.tags]
    reason = "RuntimeError: refused: 401 for token *** of *** (Broken.apply, mine.py:18)"
    assert (run.exit_code, run.summary["state"], run.summary["error"]) == (1, "failed", reason)
    assert value(run, "accel")["label"] == "broken"
    (sweep,) = of_job(server, "sweep")
    assert (sweep.summary["status"], sweep.summary["cells/complete"], sweep.summary["cells/failed"]) == ("failed", 1, 1)
    assert sweep.summary["failures"] == f"tiny_llama broken planted: failed {reason}"
    assert [row["progress/failed"] for row in sweep.history.values()][-1] == 1
    said = repr(server.runs) + repr(server.artifacts)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (*secrets.values(), KEY):
        assert secret not in said
        assert not any(secret.encode() in data for data in written)


@pytest.mark.slow
def test_a_running_sweep_is_seen_to_run(tmp_path: Path) -> None:
    line = ("-m", "accel=hqq4,wanda50,magnitude50", "benchmark=[planted,planted_answers]", "limit=100")
    with serve() as server:
        ended = biaslab(tmp_path, *line, "tracker.progress_s=1", "tracker.timeout_s=100", env=server.env())
    assert ended.code == 0, ended
    (run,) = of_job(server, "sweep")
    counts = [(seen["status"], seen["cells/complete"]) for seen in run.seen if "status" in seen]
    assert counts[0][0] == "running"
    assert counts[-1] == ("complete", 8)
    assert [n for _, n in counts] == sorted(n for _, n in counts)
    assert len(run.history) == 8


@pytest.mark.slow
def test_workers_of_a_launcher_give_the_same_runs(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    line = ("-m", "accel=hqq4,wanda50", "benchmark=planted", "limit=24", "tracker.timeout_s=100")
    with serve() as server:
        ended = biaslab(tmp_path, *line, "hydra/launcher=joblib", env=server.env())
    assert ended.code == 0, ended
    assert sorted(run.job_type for run in server.runs.values()) == ["analysis", *["arm"] * 3, *["cell"] * 3, "sweep"]
    assert all(run.complete for run in server.runs.values())
    assert len(of_job(server, "analysis")[0].used) == 3
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    names = set(server.runs)
    with serve() as again:
        assert biaslab(tmp_path, "track", str(sweep), env=again.env()).code == 0
    assert set(again.runs) == names


def test_the_dashboards_table_holds_the_reports_numbers(swept: tuple[Path, Ended, Recorder], tmp_path: Path) -> None:
    (report,) = (swept[0] / "outputs" / "reports").iterdir()
    shutil.copytree(report / "tables", tmp_path / "tables")
    with (tmp_path / "tables" / "missing.csv").open("a") as handle:
        handle.write("planted,greedy,nan,1e5,failed,out of memory\n")
    rows = dashboard_rows(tmp_path, report.name)
    shifts = pd.read_csv(report / "tables" / "shifts.csv")
    cost = pd.read_csv(report / "tables" / "cost.csv")
    assert len(rows) == len(shifts) + 1
    for row, (_, shift), (_, price) in zip(rows, shifts.iterrows(), cost.iterrows(), strict=False):
        assert (row["model"], row["accel"], row["verdict"]) == (shift["model"], shift["accel"], shift["verdict"])
        assert (row["shift"], row["ci_low"], row["ci_high"]) == (shift["value"], shift["ci_low"], shift["ci_high"])
        assert row["memory_ratio"] == price["memory_ratio"]
        assert row["label"].endswith(f"{shift['value']:+.3g}")
    gone = rows[-1]
    assert (gone["model"], gone["accel"], gone["verdict"], gone["reason"]) == ("nan", "1e5", "failed", "out of memory")
    assert gone.get("shift") is None
    assert gone["benchmark"] == "Planted associations"


def tracked(folder: Path, tmp_path: Path, *, online: bool, env: dict[str, str], **options: Any) -> tuple[str, float]:
    """The line and the seconds of handing the sweep's cells to a tracker, under an environment."""
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    code = (
        "import sys, json, time; from pathlib import Path\n"
        "from biaslab.tracking.base import TrackerConfig\nfrom biaslab.tracking.wandb import WandbTracker\n"
        "cells, sweep, out, online, options = json.loads(sys.argv[1])\n"
        "tracker = WandbTracker(TrackerConfig(name='wandb', **options), Path(sweep), Path(out), online=online)\n"
        "for cell in cells: tracker.cell(Path(cell))\n"
        "start = time.perf_counter(); line = tracker.finish(None)\n"
        "print(line); print(time.perf_counter() - start)"
    )
    paths = [str(path) for path in sorted(cells(folder).values())[:2]]
    options = {"timeout_s": 60.0, **options}  # this machine may be busy
    asked = json.dumps([paths, str(sweep), str(tmp_path / "outputs"), online, options])
    done = subprocess.run(
        [sys.executable, "-c", code, asked], capture_output=True, text=True, timeout=60, env=environment(**env)
    )
    assert done.stderr == "", done
    line, seconds = done.stdout.splitlines()
    return line, float(seconds)


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ({"status": 500}, r"(\(no answer in 10 s\)|in time)"),
        ({"refuse_key": True}, r"\(user is not logged in\)"),
        pytest.param({"delay_s": 60.0}, r"(\(no answer in 10 s\)|in time)", marks=pytest.mark.slow),
        pytest.param(None, r"(\(no answer in 10 s\)|in time)", marks=pytest.mark.slow),  # nobody listens
    ],
)
def test_a_server_that_fails_costs_seconds_and_leaves_the_runs(
    swept: tuple[Path, Ended, Recorder], tmp_path: Path, mood: dict[str, Any] | None, words: str
) -> None:
    with serve(**(mood or {})) as server:
        env = server.env() if mood is not None else server.env(WANDB_BASE_URL="http://127.0.0.1:9")
        line, seconds = tracked(swept[0], tmp_path, online=True, env=env, timeout_s=10.0)
    again = re.escape(f"; no result is lost, send them with: python -m biaslab sync {tmp_path / 'outputs' / 'wandb'}")
    assert re.fullmatch(f"W&B: 5 of 5 runs were not sent {words}{again}", line), line
    assert seconds < 20
    assert TrackerConfig().timeout_s < 20  # and that is all that a sweep waits after its last run is written
    assert len(list((tmp_path / "outputs" / "wandb").glob("offline-run-*/*.wandb"))) == 5


def sent_by(command: list[str], server: Recorder, cwd: Path) -> str:
    env = environment(**server.env())
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=cwd)
    assert done.returncode == 0, done
    assert server.unknown == []
    return done.stdout


@pytest.mark.parametrize("program", ["biaslab", pytest.param("wandb", marks=pytest.mark.slow)])
def test_the_line_it_prints_sends_offline_runs_later_and_once(
    swept: tuple[Path, Ended, Recorder], tmp_path: Path, program: str
) -> None:
    """By the line that is printed, and by W&B's own, one by one: the same runs and artifacts."""
    line, _ = tracked(swept[0], tmp_path, online=False, env={"WANDB_MODE": "offline"})
    assert line.startswith("W&B: 5 runs written offline; send them with: python -m biaslab sync ")
    command = [sys.executable, *line.split("with: python ")[1].split()]
    if program == "wandb":
        command = [*command[:2], "wandb", "sync", "-n", "1", command[-1]]
    with serve() as server:
        out = sent_by(command, server, tmp_path)
        assert len(server.runs) == 5
        assert all(run.complete for run in server.runs.values())
        made = sorted((a.kind, a.name, a.run != "") for a in server.artifacts.values() if a.kind != "run_table")
        assert [kind for kind, *_ in made] == ["accelerated-model", "model", "records", "records"]
        assert all(owned for *_, owned in made)
        if program == "biaslab":
            assert out == f"W&B: 5 runs sent to {server.url}/{server.entity}/biaslab\n"
            asked = server.n_requests
            assert "nothing to send; 5 runs" in sent_by(command, server, tmp_path)
            assert server.n_requests == asked


def test_tracking_twice_is_the_same_runs_and_artifacts(swept: tuple[Path, Ended, Recorder], tmp_path: Path) -> None:
    with serve() as server:
        for _ in range(2):
            line, _ = tracked(swept[0], tmp_path, online=True, env=server.env())
            assert line.startswith("W&B: 5 runs sent")
            state = {r.name: (r.history, r.summary, r.used) for r in server.runs.values()}, len(server.artifacts)
            assert (len(state[0]), state[1]) == (5, 6)  # 2 arms, 2 cells, the sweep; their models, records and tables
            kept = [path.name.split("-")[-1] for path in (tmp_path / "outputs" / "wandb").glob("offline-run-*")]
            assert sorted(kept) == sorted(state[0])


@pytest.mark.parametrize("program", ["import sys; sys.exit(1)", "import time; time.sleep(60)"])
def test_a_sender_that_dies_or_hangs_costs_no_more_than_its_time(
    swept: tuple[Path, Ended, Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    (sweep,) = (swept[0] / "outputs" / "sweeps").iterdir()
    tracker = WandbTracker(TrackerConfig(timeout_s=1.0), sweep, tmp_path, online=False)
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([command[0], "-c", program], **options))
    tracker.cell(next(iter(cells(swept[0]).values())))
    start = time.perf_counter()
    line = tracker.finish(None)
    assert line.startswith("W&B: 1 of 1 runs were not written")
    assert line.endswith(f"write them with: python -m biaslab track {sweep}")
    assert time.perf_counter() - start < 5


def test_a_sweep_can_be_tracked_afterwards(swept: tuple[Path, Ended, Recorder]) -> None:
    folder, _, _ = swept
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    with serve() as server:
        ended = biaslab(folder, "track", str(sweep.relative_to(folder)), "tracker.project=again", env=server.env())
    assert ended.code == 0, ended
    assert ended.out.startswith(f"W&B: 8 runs sent, group {sweep.name}")
    assert {r.project for r in server.runs.values()} == {"again"}
    assert {r.name for r in server.runs.values()} == {r.name for r in swept[2].runs.values()}
    assert biaslab(folder, "track", "nowhere").code == 2
    assert biaslab(folder, "track", str(sweep), "tracker.nonsense=1").code == 2


def test_sync_says_what_it_cannot_send(swept: tuple[Path, Ended, Recorder], tmp_path: Path) -> None:
    ended = biaslab(tmp_path, "sync")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "biaslab: sync outputs/wandb: no run there; name a folder of runs like outputs/wandb\n"
    ended = biaslab(swept[0], "sync", env={"WANDB_API_KEY": "", "NETRC": str(tmp_path / "none")})
    assert ended.code == 2
    assert ended.err == "biaslab: sync: not logged in to W&B: run `wandb login`, or set WANDB_API_KEY\n"


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ({"refuse_key": True}, r"\d+ of \d+ runs were not sent \(user is not logged in\); try again"),
        ({"status": 500}, r"http://\S+ answers with error 500; \d+ runs wait, try again later"),
        ({"delay_s": 60.0}, r"no answer from http://\S+ \(timed out\); \d+ runs wait, try again later"),
        (None, r"no answer from http://127.0.0.1:9 \(.*refused.*\); \d+ runs wait, try again later"),
    ],
)
def test_sync_with_a_server_that_fails_says_so_in_a_line(
    swept: tuple[Path, Ended, Recorder], tmp_path: Path, mood: dict[str, Any] | None, words: str
) -> None:
    (run,) = list((swept[0] / "outputs" / "wandb").glob("offline-run-*"))[:1]
    shutil.copytree(run, tmp_path / "outputs" / "wandb" / run.name, ignore=shutil.ignore_patterns("*.synced"))
    start = time.perf_counter()
    with serve(**(mood or {})) as server:
        env = server.env() if mood is not None else server.env(WANDB_BASE_URL="http://127.0.0.1:9")
        ended = biaslab(tmp_path, "sync", env=env)
        seconds = time.perf_counter() - start
    assert (ended.code, ended.out) == (3, "")
    assert re.fullmatch(f"biaslab: sync: {words}\n", ended.err), ended.err
    assert seconds < 20


def test_a_cell_that_never_reached_the_sender_is_counted(
    swept: tuple[Path, Ended, Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sweep,) = (swept[0] / "outputs" / "sweeps").iterdir()
    tracker = WandbTracker(TrackerConfig(timeout_s=1.0), sweep, tmp_path, online=False)
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([command[0], "-c", ""], **options))
    first, second, *_ = cells(swept[0]).values()
    tracker.cell(first)
    assert tracker._process is not None
    tracker._process.wait()
    tracker.cell(second)  # the pipe is broken
    assert tracker.finish(None).startswith("W&B: 2 of 2 runs were not written")


def test_large_files_are_left_out_of_an_artifact_and_said_so(
    swept: tuple[Path, Ended, Recorder], tmp_path: Path
) -> None:
    with serve() as server:
        tracked(swept[0], tmp_path, online=True, env=server.env(), artifact_mib=0.001, table_rows=0)
    assert {run.summary["artifact"].split(":")[0] for run in of_job(server, "cell")} == {"left out"}
    records = [a for a in server.artifacts.values() if a.kind == "records"]
    assert [list(a.files) for a in records] == [["left_out.json"]] * 2
    path = next(path for path in cells(swept[0]).values() if records[0].name == f"cell-{path.name[:16]}")
    word = json.loads(records[0].files["left_out.json"])
    assert word["sha256"]["records.parquet"] == hashlib.sha256((path / "records.parquet").read_bytes()).hexdigest()


def test_flatten_leaves_out_what_is_unknown() -> None:
    nested = {"a": {"b": 1.5, "c": None, "d": {"e": True}}, "f": "word", "g": [1, 2]}
    assert dict(flatten(nested)) == {"a/b": 1.5, "a/d/e": True, "f": "word"}
