"""A sweep that went wrong: what `status` shows, what `retry` runs, what a hang or a lost worker leaves."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from biaslab.console import fail
from biaslab.errors import ConfigError
from biaslab.job import explain
from biaslab.retry import typed
from biaslab.status import LINES, report
from biaslab.sweep import Sweep
from tests.cli.run import biaslab, environment

LINE = ("accel=hqq4", "benchmark=[planted_answers,planted]", "limit=40", "analysis=skip")


def newest(folder: Path) -> Path:
    return max((folder / "outputs" / "sweeps").glob("*/sweep.json"), key=lambda p: p.stat().st_mtime)


def killed_after_a_cell(folder: Path) -> None:
    """Start LINE and kill it, without a word, when its first cell is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "biaslab", *LINE], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("[1/4] + ")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


def test_a_killed_sweep_is_seen_moved_and_finished(tmp_path: Path) -> None:
    killed_after_a_cell(tmp_path)
    seen = biaslab(tmp_path, "status")
    assert seen.code == 3
    assert "is gone without a word; the same line goes on" in seen.out
    assert "4 cells: " in seen.out
    moved = tmp_path / "elsewhere" / "kept here"
    moved.parent.mkdir()
    shutil.move(tmp_path / "outputs", moved)
    (sweep,) = (moved / "sweeps").iterdir()
    before = {p: p.stat().st_mtime_ns for p in moved.rglob("cell.json")}
    assert 1 <= len(before) < 4
    ended = biaslab(tmp_path, "retry", str(sweep))
    assert ended.code == 0, ended
    assert f"{4 - len(before)} of 4 cells to run: python -m biaslab accel=hqq4" in ended.out
    assert ended.out.count("] + ") == 4 - len(before)
    assert not (tmp_path / "outputs" / "results").exists()
    assert {p: p.stat().st_mtime_ns for p in before} == before
    again = biaslab(tmp_path, "retry", str(sweep))
    assert (again.code, again.out.count("nothing to retry")) == (0, 1)
    assert biaslab(tmp_path, "status", str(sweep)).code == 0


def test_a_hung_cell_fails_on_record_and_the_others_go_on(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import time\n"
        "from biaslab.benchmarks.planted_answers import PlantedAnswers\n"
        "PlantedAnswers.items = lambda self, model: time.sleep(600)\n"
    )
    environ = environment()
    environ["PYTHONPATH"] = f"{hook}:{environ['PYTHONPATH']}"
    # Long enough for a sound cell beside other work; the two that hang only sleep.
    done = subprocess.run(
        [sys.executable, "-m", "biaslab", *LINE, "cell_timeout=25"], cwd=tmp_path, env=environ, capture_output=True,
        text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 3, done
    assert done.stdout.count("] + ") == 2
    assert done.stdout.count("no end after 25 s (cell_timeout)") == 2
    assert "run the same line again" in done.stderr
    failures = [json.loads(path.read_text()) for path in tmp_path.rglob("failure.json")]
    assert len(failures) == 2
    assert all("time.sleep(600)" in failure["traceback"] for failure in failures)
    states = biaslab(tmp_path, "status").out
    assert states.count("failed    tiny_llama") == 2


@pytest.mark.parametrize("value", ["0", "-3"])
def test_a_timeout_must_be_positive(tmp_path: Path, value: str) -> None:
    ended = biaslab(tmp_path, f"cell_timeout={value}")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "must be above 0 seconds, or null for no limit" in ended.err


def test_memory_that_no_smaller_batch_mends_says_what_is_free() -> None:
    words = explain(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "cpu")
    assert "you tried to allocate 9 bytes" in words
    assert "GiB are free on cpu: use a smaller dtype" in words
    assert explain(KeyError("x"), "cpu") == "KeyError: 'x'"


def ledger_of(n: int, **changed: Any) -> dict[str, Any]:
    cell = {"model": "m", "accel": "none", "benchmark": "planted", "state": "missing", "error": ""}
    return {
        "schema_version": 1, "id": "x", "command": "python -m biaslab", "argv": ["accel=hqq4"], "created": "then",
        "finished": None, "status": "running", "process": {"host": "far", "pid": 1}, "results": "../../results",
        "cells": [cell | {"key": f"{k:032x}", "path": f"planted/m/none/{k:032x}"} for k in range(n)],
    } | changed  # fmt: skip


def test_a_long_sweep_shows_what_is_not_there_and_no_escape_codes(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "x"
    folder.mkdir(parents=True)
    ledger = ledger_of(LINES + 40, command="python -m biaslab \x1b[31m")
    (folder / "sweep.json").write_text(json.dumps(ledger))
    bad = tmp_path / "results" / ledger["cells"][7]["path"]
    bad.mkdir(parents=True)
    (bad / "failure.json").write_text(json.dumps({"schema_version": 1, "error": "NaN \x1b]0;title\x07"}))
    lines, states = report(folder)
    assert lines[0].endswith("\\x1b[31m")
    assert "started then on far, process 1" in lines[1]
    assert lines[2] == "  failed    m                none                 planted            NaN \\x1b]0;title\\x07"
    assert lines[-1] == f"{LINES + 40} cells: 1 failed, {LINES + 39} missing"
    assert len(lines) == 2 + LINES + 2
    assert len(report(folder, everything=True)[0]) == 2 + LINES + 40 + 1
    assert len(states) == LINES + 40


def in_a_queue(folder: Path, squeue: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `status` says of 4 cells in 3 jobs where squeue is a script of these words."""
    script = folder / "bin" / "squeue"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{squeue}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    ledger = ledger_of(4, status="interrupted")
    base, *arms = (cell["path"] for cell in ledger["cells"])
    jobs = {f"7_{k}": [base, arm] for k, arm in enumerate(arms)}
    ledger["submitted"] = {"launcher": "slurm", "partition": "gpu", "jobs": jobs}
    sweep = folder / "sweeps" / "x"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text(json.dumps(ledger))
    for path in (arms[0], arms[2]):  # of a sweep before: the second one is computed again when its job begins
        (folder / "results" / path).mkdir(parents=True)
        (folder / "results" / path / "failure.json").write_text(json.dumps({"schema_version": 1, "error": "NaN"}))
    return [" ".join(line.split()) for line in report(sweep)[0][2:]]


def test_what_waits_in_a_queue_is_waiting_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "/bin/echo '7_0|RUNNING'; /bin/echo '7_1|CANCELLED'; /bin/echo '7_2|PENDING'"
    lines = in_a_queue(tmp_path, f'[ "$6" = 7 ] || exit 1; {answer}', monkeypatch)
    assert lines == [
        "3 Slurm jobs (7, partition gpu): 1 running, 1 in the queue; scancel 7 ends them",
        "waiting m none planted Slurm job 7_0, running",
        "failed m none planted NaN",
        "missing m none planted Slurm job 7_1 ended as CANCELLED",
        "waiting m none planted Slurm job 7_2, in the queue",
        "4 cells: 1 failed, 2 waiting, 1 missing",
    ]


@pytest.mark.parametrize(
    ("squeue", "words"),
    [
        ("/bin/echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "no longer in the queue"),
        ("exit 1", "the queue cannot be asked here (squeue), so what waits in it is shown as missing"),
    ],
)
def test_a_queue_that_is_empty_or_silent_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, words: str
) -> None:
    lines = in_a_queue(tmp_path, squeue, monkeypatch)
    assert lines[0] == f"3 Slurm jobs (7, partition gpu): {words}"
    assert lines[-1] == "4 cells: 2 failed, 2 missing"


def test_a_baseline_that_two_jobs_share_is_one_cell_of_the_count(tmp_path: Path) -> None:
    line = ("-m", "accel=hqq4,hqq8", "benchmark=planted", "limit=4", "analysis=skip", "tracker=none")
    ended = biaslab(tmp_path, *line)
    assert ended.code == 0, ended
    assert [text.split("]")[0] for text in ended.out.splitlines() if text.startswith("[")] == ["[1/3", "[2/3", "[3/3"]


@pytest.mark.parametrize(
    "word",
    [
        "hydra.callbacks.x._target_=os.system", "model.trust_remote_code=true", "--config-dir=/tmp/x", "-cd", "-cp",
        "hydra.launcher.setup=[rm]", "+hydra.launcher.additional_parameters.wrap=x", "accel=custom",
        "benchmark=custom", "accel.custom.target=os.system", "hydra.searchpath=[file:///x]", "hydra.run.dir=/x",
    ],
)  # fmt: skip
def test_retry_runs_no_line_that_could_run_code(tmp_path: Path, word: str) -> None:
    with pytest.raises(ConfigError, match="can run code; read the line, and type it yourself"):
        typed(tmp_path / "sweeps" / "x", ledger_of(1, argv=["accel=hqq4", word]))


def test_retry_keeps_the_line_and_finds_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-m", "accel=hqq4,[wanda50,hqq4]", "hydra/launcher=slurm", "hydra.launcher.partition=gpu"]
    folder = tmp_path / "outputs" / "sweeps" / "x"
    assert typed(folder, ledger_of(1, argv=[*words, "outputs=old/place"])) == words
    assert typed(tmp_path / "it's" / "sweeps" / "x", ledger_of(1, argv=words))[-1] == f"outputs='{tmp_path}/it\\'s'"
    for broken in (None, "accel=hqq4", [1]):
        with pytest.raises(ConfigError, match="holds no line"):
            typed(folder, ledger_of(1, argv=broken))


def test_status_watches_until_it_is_over(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "sweeps" / "x"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps(ledger_of(1)))
    watching = subprocess.Popen(
        [sys.executable, "-m", "biaslab", "status", "watch=0.2"], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert watching.stdout is not None
    assert "sweep x" in watching.stdout.readline()
    cell = tmp_path / "outputs" / "results" / ledger_of(1)["cells"][0]["path"]
    cell.mkdir(parents=True)
    (cell / "records.parquet").write_text("")
    (cell / "cell.json").write_text("{}")
    out, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert out.splitlines()[-1] == "1 cells: 1 complete"
    assert biaslab(tmp_path, "status", "watch=soon").code == 2


@pytest.mark.data
def test_a_corrupt_download_is_named_and_the_next_run_fetches_it_again(tmp_path: Path, data_dir: Path) -> None:
    cache = tmp_path / "cache"
    from biaslab.benchmarks.crows_pairs import CrowsPairs

    (file,) = CrowsPairs.files
    (cache / file.local).parent.mkdir(parents=True)
    (cache / file.local).write_bytes((data_dir / file.local).read_bytes()[:-1])
    ended = biaslab(tmp_path, "benchmark=crows_pairs", "limit=4", env={"BIASLAB_CACHE_DIR": str(cache)})
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "delete it to fetch it again" in ended.err


def test_a_job_that_cannot_start_fails_its_cells_by_name(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweeps" / "x", tmp_path / "outputs", None, created="then")  # type: ignore[arg-type]
    entry = ledger_of(1)["cells"][0] | {"reused": False}
    sweep.cells[entry["path"]] = entry
    sweep.jobs[0] = [entry["path"]]
    (sweep.folder / "jobs" / "0").mkdir(parents=True)
    content = {"schema_version": 1, "job": 0, "error": "model.path=x: no such folder", "cells": []}
    (sweep.folder / "jobs" / "0" / "cells.json").write_text(json.dumps(content))
    sweep.collect()
    assert (entry["state"], entry["error"]) == ("failed", "job 0: model.path=x: no such folder")
    failure = json.loads((tmp_path / "outputs" / "results" / entry["path"] / "failure.json").read_text())
    assert failure["error"] == "job 0: model.path=x: no such folder"


def test_a_lost_jobs_reason_is_one_line_and_all_it_said_is_on_record(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweeps" / "x", tmp_path / "outputs", None, created="then")  # type: ignore[arg-type]
    entry = ledger_of(1)["cells"][0] | {"reused": False}
    sweep.cells[entry["path"]] = entry
    sweep.jobs[0] = [entry["path"]]
    sweep.lost[0] = "Slurm job 7_0 is lost: it ended as CANCELLED\n" + 60 * "what its log said last\n"
    sweep.collect()
    assert entry["error"] == "job 0: Slurm job 7_0 is lost: it ended as CANCELLED"
    failure = json.loads((tmp_path / "outputs" / "results" / entry["path"] / "failure.json").read_text())
    assert failure["error"] == entry["error"]
    assert failure["traceback"].count("what its log said last") == 60


def test_status_says_a_reason_once_and_no_wider_than_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "x"
    folder.mkdir(parents=True)
    ledger = ledger_of(3)
    (folder / "sweep.json").write_text(json.dumps(ledger))
    for cell in ledger["cells"]:
        (tmp_path / "results" / cell["path"]).mkdir(parents=True)
        failure = {"schema_version": 1, "error": f"job 1: {'x' * 480}"}
        (tmp_path / "results" / cell["path"] / "failure.json").write_text(json.dumps(failure))
    whole, _ = report(folder)
    assert [line.endswith("(the same)") for line in whole[2:5]] == [False, True, True]
    assert whole[2].endswith(480 * "x")
    cut, _ = report(folder, width=90)
    assert len(cut[2]) == 90
    assert cut[2].endswith("x…")
    assert cut[3:] == whole[3:]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_reason_fits_the_terminal_and_is_whole_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    for stream, cut in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        assert fail(f"m hqq4 bbq: failed {'x' * 480}", fit=True) is cut
        (line,) = stream.getvalue().splitlines()
        assert (len(line), line[-1]) == ((72, "…") if cut else (508, "x"))
    monkeypatch.setattr("sys.stderr", Terminal())
    assert fail(f"a wrong request is told in full, with what to do: {'x' * 480}") is False


def test_a_broken_job_ledger_is_said_and_the_store_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Sweep(tmp_path / "sweeps" / "x", tmp_path / "outputs", None, created="then")  # type: ignore[arg-type]
    entries = [cell | {"reused": False} for cell in ledger_of(2)["cells"]]
    sweep.cells = {entry["path"]: entry for entry in entries}
    done = tmp_path / "outputs" / "results" / entries[0]["path"]
    done.mkdir(parents=True)
    (done / "cell.json").write_text("{}")
    (sweep.folder / "jobs" / "0").mkdir(parents=True)
    (sweep.folder / "jobs" / "0" / "cells.json").write_text('{"schema_version": 1, "cel')
    sweep.collect()
    assert [cell["state"] for cell in sweep.cells.values()] == ["complete", "missing"]
    assert "looked up in the store" in capsys.readouterr().err
