"""A sweep: the ledger of one typed line, from the first check to the report.

Hydra runs the jobs, on whatever launcher. Before the first one starts, `SweepCallback` plans every job in
the launching process, so that a wrong line fails before anything is loaded. Each job writes its own part
of the ledger; `finish` joins them into sweep.json, runs the analysis and decides the exit code.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from biaslab.config import Config, validate
from biaslab.console import Reporter, fail
from biaslab.errors import BiaslabError, ConfigError, StoreError
from biaslab.expand import job_configs, own_part
from biaslab.launchers.queue import arrays
from biaslab.own_code import raised_in
from biaslab.results.claims import host_name
from biaslab.results.ledger import benchmark_words, reasons
from biaslab.results.schema import SCHEMA_VERSION
from biaslab.results.store import CellRef, Store, read_json, replace_json
from biaslab.secrets import RedactingFormatter, redact
from biaslab.sweeper import applicable
from biaslab.tracking.base import NoTracker, Tracker, make_tracker

if TYPE_CHECKING:
    from biaslab.models.base import ModelInfo

log = logging.getLogger(__name__)

LEDGER = "sweep.json"
JOB_LEDGER = "cells.json"
#: Beside results: tracebacks of a user's own code that failed before anything began.
REFUSED = "refused.log"


class Stop(SystemExit):
    """Leaves Hydra from a callback: Hydra turns an ordinary exception there into a warning."""


@dataclass
class Sweep:
    """One typed line in the launching process.

    jobs : paths of the cells that each job answers for, by the job's number; empty for a refused job.
    lost : why a job ended without a word (its worker was killed, its node died), by the job's number.
    queued : a queue's number of each job that was submitted to it, and the queue's partition ("": its default).
    """

    folder: Path
    outputs: Path
    config: Config
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)  # by path below the results folder
    created: str = ""
    jobs: dict[int, list[str]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    queued: tuple[Mapping[int, str], str] | None = None

    def write(self, status: str) -> None:
        """Write sweep.json: the line, and every cell with its state."""
        results = os.path.relpath(self.outputs / "results", self.folder)
        finished = None if status == "running" else _now()
        submitted: dict[str, Any] = {}
        if self.queued:
            ids, partition = self.queued
            jobs = {ids[number]: self.jobs.get(number, []) for number in ids}
            submitted["submitted"] = {"launcher": "slurm", "partition": partition, "jobs": jobs}
        replace_json(
            self.folder / LEDGER,
            {
                "schema_version": SCHEMA_VERSION,
                "id": self.folder.name,
                "command": typed_line(),
                "argv": [redact(word) for word in _typed()],
                "created": self.created,
                "finished": finished,
                "status": status,
                "process": {"host": host_name(), "pid": os.getpid()},
                "results": Path(results).as_posix(),
                "cells": list(self.cells.values()),
                **submitted,
            },
        )

    def job_words(self, number: int) -> str:
        """A job by its number and its arm."""
        arm = self.cells.get(self.jobs[number][-1], {}) if self.jobs.get(number) else {}
        return f"job {number} ({arm['model']} {arm['accel']})" if arm else f"job {number}"

    def take_complete(self) -> bool:
        """Whether every cell is complete already; marks them so. Then no job need be launched."""
        results = str(self.outputs / "results")
        if not all(os.path.isfile(f"{results}/{path}/cell.json") for path in self.cells):
            return False
        for cell in self.cells.values():
            cell |= {"state": "complete", "reused": True, "error": ""}
        return True

    def collect(self) -> None:
        """Take over what each job wrote; a cell no job speaks of stays missing."""
        for path in sorted(self.folder.rglob(JOB_LEDGER)):
            number, entries, refusal = _read_job_ledger(path)
            if refusal:
                self.lost.setdefault(number, refusal)
            for entry in entries:
                known = self.cells.get(entry["path"])
                if known is None or _rank(entry) >= _rank(known):
                    # A baseline that one job computed and another met is computed, not reused.
                    computed = known is not None and known["state"] == "complete" and not known["reused"]
                    self.cells[entry["path"]] = entry | {"reused": entry["reused"] and not computed}
        store = Store(self.outputs / "results")
        for name, cell in self.cells.items():  # one job's "elsewhere" may be another's complete
            if cell["state"] in ("missing", "elsewhere") and (store.root / name / "cell.json").is_file():
                cell |= {"state": "complete", "error": ""}
        for number, reason in self.lost.items():
            for name in self.jobs.get(number, ()):
                if self.cells[name]["state"] in ("missing", "elsewhere"):
                    self._lose(store, self.cells[name], f"job {number}: {reason}")

    def _lose(self, store: Store, cell: dict[str, Any], reason: str) -> None:
        """Put it on record that the worker that should have computed a cell is gone: in a line, and all it said."""
        cell |= {"state": "failed", "error": " ".join(reason.splitlines()[0].split())}
        ref = CellRef(cell["benchmark"], cell["model"], cell["accel"], cell["key"])
        failure = {"error": cell["error"], "traceback": reason, "finished": _now(), "command": typed_line()}
        try:
            store.write_failure(ref, failure)
        except StoreError as unwritable:
            log.error("the failure could not be put on record: %s", unwritable)


class _Current:
    """What this process knows of its sweep: set by the callback, used by the jobs and by `finish`."""

    sweep: Sweep | None = None
    typed: list[str] | None = None
    reporter = Reporter()
    bench: Any = None
    tracker: Tracker = NoTracker()


class SweepCallback(Callback):  # type: ignore[misc]  # Hydra ships no types
    """Plans all jobs before the first one runs. Configured in conf/config.yaml."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plan the one job of a single run."""
        _guarded(lambda: _start_run(config), Path(config.outputs))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Plan every job of a multirun."""
        _guarded(lambda: _start_multirun(config), Path(config.outputs))


def run_job(composed: DictConfig) -> list[dict[str, Any]]:
    """Hydra's task function: one job, on this process or a launcher's worker. Never raises but to interrupt."""
    from hydra.core.hydra_config import HydraConfig

    from biaslab.job import Workbench
    from biaslab.job import run_job as run

    folder = Path(HydraConfig.get().runtime.output_dir)
    command = redact("python -m biaslab " + shlex.join(HydraConfig.get().overrides.task))
    _Current.bench = _Current.bench or Workbench(_Current.reporter.fetching)
    entries: list[dict[str, Any]] = []
    refusal = ""
    try:
        plan = _plan(composed)
        entries = run(
            plan,
            command=command.strip(),
            reporter=_Current.reporter,
            bench=_Current.bench,
            on_cell=_Current.tracker.cell,
        )
    except BiaslabError as error:  # refused: planning already said so, the launcher's worker may differ
        log.exception("job refused")
        refusal = str(error)
    except Exception as error:  # the job boundary: its cells fail, the other jobs go on
        log.exception("job failed")
        refusal = f"{type(error).__name__}: {error}"
    finally:
        _write_job_ledger(folder, entries, refusal)
    if refusal:
        _Current.reporter.say(f"! {' '.join(HydraConfig.get().overrides.task)}: {refusal}")
    return entries


def jobs_submitted(ids: Mapping[int, str], partition: str) -> None:
    """A launcher's word of Slurm's number of each job; it goes into the ledger, for `status`, and on the terminal."""
    sweep = _Current.sweep
    if sweep is None:
        return
    sweep.queued = (dict(ids), partition)
    sweep.write("running")
    array = arrays(ids.values())
    what = f"{len(ids)} jobs ({len(sweep.cells)} cells) as Slurm array" if len(ids) > 1 else "1 job as Slurm job"
    where = f"partition {partition}" if partition else "the default partition"
    _Current.reporter.say(
        f"submitted {what} {array} to {where}; to watch: squeue -j {array}, or python -m biaslab status {sweep.folder}"
    )


def job_ended(number: int) -> None:
    """A launcher's word that job `number` came to its end; says how many of its cells are there."""
    sweep = _Current.sweep
    if sweep is None or not sweep.jobs.get(number):  # refused when it was planned
        return
    paths, results = sweep.jobs[number], str(sweep.outputs / "results")
    there = sum(os.path.isfile(f"{results}/{path}/cell.json") for path in paths)
    mark = "+" if there == len(paths) else "!"
    words = f"{mark} {sweep.job_words(number)}: ended, {there} of its {len(paths)} cells are complete"
    _Current.reporter.end_cells(words, paths)


def job_lost(number: int, reason: str) -> None:
    """A launcher's word that job `number` ended without a ledger: its cells will be failures on record."""
    sweep = _Current.sweep
    if sweep is None:
        return
    sweep.lost[number] = redact(reason)
    words = f"! {sweep.job_words(number)}: {reason.splitlines()[0]}"
    _Current.reporter.end_cells(words, sweep.jobs.get(number, ()))


def withdraw(refusal: BiaslabError) -> None:
    """Take the planned sweep back, for no job of it was taken on: nothing is left that `status` could tell of."""
    sweep, _Current.sweep = _Current.sweep, None
    log.error("no job was taken on", exc_info=refusal)
    _Current.reporter.stop()
    _Current.tracker.stop()
    if sweep is not None:
        (sweep.folder / LEDGER).unlink(missing_ok=True)


def finish(*, interrupted: bool = False) -> int:
    """Join the jobs' ledgers, analyse, print the verdicts and what is missing; the exit code."""
    _Current.reporter.stop()
    if _Current.sweep is None:
        if interrupted:  # while planning, or while organisms were trained
            fail("interrupted: no cell was begun")
        return 130 if interrupted else 0
    try:
        return _finish(_Current.sweep, interrupted)
    except StoreError as error:  # a full disk, a folder that went away: what is complete stays
        fail(str(error))
        return error.exit_code


def _finish(sweep: Sweep, interrupted: bool) -> int:
    sweep.collect()
    bad = [entry for entry in sweep.cells.values() if entry["state"] != "complete"]
    if interrupted:
        _Current.tracker.stop()
        sweep.write("interrupted")
        n_complete = len(sweep.cells) - len(bad)
        fail(f"interrupted: {n_complete} of {len(sweep.cells)} cells are complete; the same line goes on from there")
        return 130
    sweep.write("failed" if bad else "complete")
    if all(entry.get("reused") for entry in sweep.cells.values()):
        print("Every cell was complete already: nothing was computed.", flush=True)
    analysed = _analyse(sweep)
    _finish_tracking(sweep)
    if any([fail(line, fit=True) for line in reasons(bad, sweep.outputs / "results")]):
        fail(f"each reason in full: {sweep.folder / LEDGER}")
    if bad:
        fail(f"{len(bad)} of {len(sweep.cells)} cells are not there; run the same line again: {typed_line()}")
    return 3 if bad or not analysed else 0


def started() -> bool:
    """Whether planning is over, so that an error is no longer the typed line's."""
    return _Current.sweep is not None


def current_sweep() -> Sweep | None:
    """The sweep that this process launched, once it is planned."""
    return _Current.sweep


def typed_line() -> str:
    """What was typed, as a line that can be typed again."""
    return redact(shlex.join(["python", "-m", "biaslab", *_typed()]))


def remember_line(words: Sequence[str]) -> None:
    """Keep what was typed; Hydra may be given the same in other words."""
    _Current.typed = list(words)


def _typed() -> list[str]:
    return sys.argv[1:] if _Current.typed is None else _Current.typed


def _start_run(config: DictConfig) -> None:
    from biaslab.launchers import check_multirun

    launcher = config.hydra.launcher
    check_multirun(config.hydra.runtime.choices["hydra/launcher"], str(launcher.get("_target_", "")), typed_line())
    _start(config.hydra.run.dir, [own_part(config)])


def _start_multirun(config: DictConfig) -> None:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from biaslab.launchers import register_launchers, register_sweeper
    from biaslab.messages import one_line

    register_launchers(str(config.hydra.launcher.get("_target_", "")))
    ours = register_sweeper(str(config.hydra.sweeper.get("_target_", "")))
    try:
        jobs = job_configs(config, applicable if ours else None)
    except (HydraException, OmegaConfBaseException) as error:  # Hydra would print it as a warning, and go on
        raise ConfigError(one_line(error)) from error
    _start(config.hydra.sweep.dir, jobs)
    _keep_log(Path(config.hydra.sweep.dir) / f"{config.hydra.job.name}.log")


def _keep_log(path: Path) -> None:
    """What this process logs while workers run the jobs goes to a file, made when there is something to log.

    Hydra sets up logs for jobs alone, and Python prints what no log takes on the terminal.
    """
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)


def _start(folder: str, jobs: Sequence[Config]) -> None:
    from biaslab.plan import check_own_benchmarks

    plans, refused = {}, []
    plan = _planner(dry_run=jobs[0].dry_run)
    for checked in jobs:
        validate(checked)
    if not jobs[0].dry_run:
        _train_organisms(jobs)
    for number, checked in enumerate(jobs):
        try:
            plans[number] = plan(checked)
        except ConfigError as error:
            refused.append((checked, error))
    if not plans:
        raise refused[0][1]
    _check_labels(plan.info for plan in plans.values())
    check_own_benchmarks(plans.values())
    first = next(iter(plans.values())).config
    sweep = Sweep(Path(folder), Path(first.outputs), first, created=_now())
    _enter_plans(sweep, plans)
    for checked, reason in refused:
        _enter_refused(sweep, checked, reason)
    if first.dry_run:
        _print_dry_run(sweep)
        raise Stop(0)
    for _, reason in refused:
        fail(f"refused: {reason}{_keep_traceback(reason, sweep.outputs)}")
    if note := Store(sweep.outputs / "results").prepare():
        fail(f"note: {note}")
    sweep.write("running")
    _Current.sweep = sweep
    if not first.force and sweep.take_complete():
        raise Stop(finish())
    _Current.reporter.start(len(set().union(*sweep.jobs.values())))  # a baseline is a cell of each of its jobs
    from_hub = any(plan.info.source == "hub" for plan in plans.values())
    _Current.tracker = make_tracker(first.tracker, sweep.folder, sweep.outputs, hub=from_hub)
    _Current.tracker.begin()


def _train_organisms(jobs: Sequence[Config]) -> None:
    """Train what the jobs ask for and the cache lacks, before anything is planned: a cell is named by its weights."""
    from biaslab.models.embedded import organisms

    asked = [job.model.organism for job in jobs if job.model.source == "organism"]
    if missing := {o.label: o for o in asked if not organisms.is_here(o)}:
        with _Current.reporter.training(", ".join(missing)) as on_progress:
            organisms.ensure(missing.values(), on_progress)


def _check_labels(models: Iterable[ModelInfo]) -> None:
    """ConfigError where one label stands for two models: no report could tell their results apart."""
    known: dict[str, ModelInfo] = {}
    for info in models:
        other = known.setdefault(info.label, info)
        if other.identity != info.identity:
            raise ConfigError(
                f"model: {info.label} would be the label of two models ({other.path} and {info.path}); let the name "
                "tell them apart, as in model.name='NAME-${model.revision}', or give each a file (--config-dir)"
            )


def _enter_plans(sweep: Sweep, plans: Mapping[int, Any]) -> None:
    from biaslab.job import ledger_entry

    for number, plan in plans.items():
        specs = (*plan.baseline, *plan.cells)
        sweep.jobs[number] = [spec.ref.path for spec in specs]
        for spec in specs:
            entry = {**ledger_entry(spec), "state": "missing", "reused": False, "error": "no job reported it"}
            sweep.cells.setdefault(spec.ref.path, entry)


def _enter_refused(sweep: Sweep, config: Config, error: ConfigError) -> None:
    """Enter each cell of a job that cannot start; decodings, seeds and changed fields are cells of their own."""
    from biaslab.accel.stack import label
    from biaslab.cell import benchmark_label
    from biaslab.plan import asked_label, yaml_default

    accel = label(config.accel, {name: yaml_default(name, step) for name, step in config.accel.items()})
    model = asked_label(config.model)
    for benchmark in config.benchmark.values():
        name = benchmark_label(benchmark, config.prompt)
        mode = config.decoding.mode if benchmark.generates else "greedy"
        path = f"refused/{name}/{model}/{accel}/{mode}/{config.seed}"
        entry: dict[str, Any] = {"key": "", "path": path, "model": model, "accel": accel}
        entry |= {"benchmark": name, "decoding": mode, "seed": config.seed}
        sweep.cells[path] = entry | {"state": "refused", "reused": False, "error": str(error)}


def _print_dry_run(sweep: Sweep) -> None:
    store = Store(sweep.outputs / "results")
    n_todo = 0
    for path, entry in sweep.cells.items():
        done = (store.root / path / "cell.json").is_file()
        state = "complete" if done else "refused: " + entry["error"] if entry["state"] == "refused" else "to run"
        n_todo += state == "to run"
        name = f"{entry['model']:16} {entry['accel']:20} {benchmark_words(entry):18}"
        print(f"{name} {state}  {entry['key'][:12]}".rstrip())
    print(
        f"{len(sweep.cells)} cell{'s' * (len(sweep.cells) != 1)}, {n_todo} to run; nothing was computed (dry_run=true)"
    )


def _plan(composed: DictConfig) -> Any:
    config = own_part(composed)
    validate(config)
    return _planner()(config)


def _planner(*, dry_run: bool = False) -> Callable[[Config], Any]:
    """Makes plans; what jobs share (a model's description, an accelerator's defaults) is looked up once."""
    from biaslab.plan import describe, identify, make_plan, yaml_default

    models: dict[str, Any] = {}
    defaults: dict[tuple[str, type], Any] = {}
    steps: dict[tuple[type, str, int], Any] = {}

    def described(model: Any) -> Any:
        name = repr(model)
        if name not in models:
            try:
                models[name] = describe(model, dry_run=dry_run)
            except BiaslabError as error:  # a hub that is away is not asked again for each job
                models[name] = error
        if isinstance(models[name], BiaslabError):
            raise models[name]
        return models[name]

    def identified(accel: Any, info: Any) -> Any:  # reads what the accelerator calibrates on
        step = (type(accel), repr(asdict(accel)), id(info))
        if step not in steps:
            steps[step] = identify(accel, info)
        return steps[step]

    def plan(config: Config) -> Any:
        for name, accel in config.accel.items():
            if (name, type(accel)) not in defaults:
                defaults[name, type(accel)] = yaml_default(name, accel)
        own = {name: defaults[name, type(accel)] for name, accel in config.accel.items()}
        return make_plan(config, own, described, identified)

    return plan


def _guarded(action: Any, outputs: Path) -> None:
    """Run a callback's work; say an error in one line and leave with its code.

    An exception of a user's own code makes the request a wrong one. Hydra would turn any exception into a warning.
    """
    try:
        action()
    except BiaslabError as error:
        log.debug("refused", exc_info=True)
        fail(f"{error}{_keep_traceback(error, outputs)}")
        raise Stop(error.exit_code) from error
    except Exception as error:
        where = raised_in(error)
        place = f" ({where})" if where else ""
        fail(f"{type(error).__name__}: {error}{place}{_keep_traceback(error, outputs)}")
        raise Stop(ConfigError.exit_code if where else BiaslabError.exit_code) from error


def _keep_traceback(error: BaseException, outputs: Path) -> str:
    """Put the traceback of an unexpected exception where it can be read; the words that say where, "" for none."""
    cause: BaseException | None = error
    while isinstance(cause, BiaslabError):
        cause = cause.__cause__
    if cause is None or (cause is not error and not raised_in(cause)):
        return ""
    path = outputs / REFUSED
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{_now()} {typed_line()}\n{redact(''.join(traceback.format_exception(error)))}\n")
    except OSError:
        return ""  # the line itself is the message
    return f"; traceback: {path}"


def _analyse(sweep: Sweep) -> bool:
    if sweep.config.analysis.skip:
        print(f"Results: {sweep.outputs / 'results'}   sweep: {sweep.folder}", flush=True)
        return True
    if not any(entry["state"] == "complete" for entry in sweep.cells.values()):
        return False
    from analysis.__main__ import run

    try:
        run(sweep.folder, sweep.outputs / "reports" / sweep.folder.name, sweep.config.analysis, sys.stdout)
    except Exception as error:  # the results are safe; the analysis can be run again on its own
        log.exception("analysis failed")
        fail(
            f"the analysis failed ({type(error).__name__}: {error}); again with: "
            f"python -m analysis results={sweep.folder}"
        )
        return False
    return True


def _write_job_ledger(folder: Path, entries: list[dict[str, Any]], refusal: str) -> None:
    from hydra.core.hydra_config import HydraConfig

    job = HydraConfig.get().job
    number = 0 if OmegaConf.is_missing(job, "num") else job.num
    content = {"schema_version": SCHEMA_VERSION, "job": number, "error": refusal, "cells": entries}
    try:
        replace_json(folder / JOB_LEDGER, content)
    except StoreError as error:  # the store knows what is complete; only the other states are lost
        log.error("%s", error)
        _Current.reporter.say(f"! {error}")


def _read_job_ledger(path: Path) -> tuple[int, list[dict[str, Any]], str]:
    """A job's number, what it says of its cells, and why it could not start; nothing if the file is broken."""
    try:
        content = read_json(path)
        return int(content["job"]), list(content["cells"]), str(content["error"])
    except (StoreError, KeyError, TypeError, ValueError) as error:
        fail(f"{path}: cannot be read ({error}); the cells it speaks of are looked up in the store")
        return -1, [], ""


def _finish_tracking(sweep: Sweep) -> None:
    """Hand over what was computed here or by a launcher's workers, then the report; results are safe already."""
    from biaslab.tracking.track import hand_over

    hand_over(_Current.tracker, sweep.outputs / "results", sweep.cells.values())
    if line := _Current.tracker.finish(sweep.outputs / "reports" / sweep.folder.name):
        print(line, flush=True)


def _rank(entry: dict[str, Any]) -> int:
    return ["missing", "refused", "elsewhere", "failed", "complete"].index(entry["state"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
