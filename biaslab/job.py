"""One job: one arm and all its benchmarks, and whatever baseline cells nobody has or is computing."""

from __future__ import annotations

import copy
import dataclasses
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab import cell as cells
from biaslab.cell import CellSpec
from biaslab.console import Reporter
from biaslab.deadline import deadline
from biaslab.environment import environment
from biaslab.errors import BiaslabError, CellFailed
from biaslab.models.base import GENERATED_ONLY, Fact, LoadedModel, ModelInfo
from biaslab.models.hub_files import Progress as Fetching
from biaslab.models.hub_files import fetch
from biaslab.models.placement import Placement
from biaslab.own_code import raised_in
from biaslab.plan import JobPlan
from biaslab.results.ledger import entry_words
from biaslab.results.store import Store
from biaslab.secrets import redact

if TYPE_CHECKING:
    import torch

    from biaslab.engine.core import Engine

log = logging.getLogger(__name__)


@dataclass
class Arm:
    """A model as it is asked, with what it cost and the proof that it acted."""

    label: str
    kind: str  # "baseline", "accelerated" or "placebo"
    model: LoadedModel
    steps: list[dict[str, Any]] = field(default_factory=list)
    active: dict[str, Any] | None = None
    active_generating: dict[str, Any] | None = None  # where generated text is read otherwise than scored text
    efficiency: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


class Workbench:
    """Keeps the untouched model of the last job, so that jobs in one process load a model once."""

    def __init__(self, fetching: Callable[[str], Fetching] | None = None) -> None:
        self.fetching = fetching
        self._key: tuple[str, Placement] | None = None
        self._model: LoadedModel | None = None
        self._reference: torch.Tensor | None = None
        self.load_s = 0.0

    def untouched(self, plan: JobPlan) -> LoadedModel:
        """The plan's model as loaded; callers must not change it."""
        from biaslab.models.loading import load
        from biaslab.models.placement import check_free

        key = (plan.info.identity, plan.placement)
        if self._model is None or self._key != key:
            self._model = self._reference = None  # free the old weights before the new ones come
            check_free(plan.placement, f"model={plan.info.label}")
            trust = plan.config.model.trust_remote_code
            if plan.info.source == "hub":
                progress = self.fetching(plan.info.label) if self.fetching else None
                fetch(plan.info, trust_remote_code=trust, progress=progress)
            start = time.perf_counter()
            self._model = load(
                plan.info,
                device=plan.device,
                dtype=plan.dtype,
                load_kwargs={},
                trust_remote_code=trust,
                placement=plan.placement,
            )
            self.load_s = time.perf_counter() - start
            self._key = key
        return dataclasses.replace(self._model, info=plan.info)

    def reference(self, plan: JobPlan) -> torch.Tensor:
        """Logits of the untouched model on the fixed prompts of the active check."""
        from biaslab.accel.active import reference_logits

        model = self.untouched(plan)
        if self._reference is None:
            self._reference = reference_logits(model)
        return self._reference

    def held_bytes(self, beside: LoadedModel) -> float:
        """Bytes of the untouched model that stays in memory beside another one."""
        from biaslab.accel.facts import weight_bytes

        other = self._model is not None and self._model.module is not beside.module
        return float(weight_bytes(self._model.module)) if other and self._model is not None else 0.0

    def accelerated(self, plan: JobPlan) -> LoadedModel:
        """A model with the plan's stack applied; the untouched one stays where memory allows."""
        from biaslab.accel.cache import GIB, WeightCache
        from biaslab.accel.facts import weight_bytes
        from biaslab.accel.stack import apply_stack
        from biaslab.models.loading import free_memory

        model = self.untouched(plan)
        room = free_memory(plan.device) > 1.5 * weight_bytes(model.module)
        if room and not plan.placement.dispatched:
            model = dataclasses.replace(model, module=copy.deepcopy(model.module), facts=[])
        else:
            self._model = self._key = self._reference = None
        if (folder := plan.accel_cache) is None or plan.placement.dispatched:
            return apply_stack(model, plan.accels)
        return WeightCache(folder, plan.config.accel_cache_gib * GIB).apply(model, plan.accels)


def run_job(
    plan: JobPlan, *, command: str, reporter: Reporter, bench: Workbench, on_cell: Callable[[Path], None] | None = None
) -> list[dict[str, Any]]:
    """Compute what is missing of the plan's cells; one entry of sweep.json for each, in order.

    on_cell : told the folder of each cell that was computed here, once it is on disk.
    A cell that fails is put on record with its traceback and the job goes on. Only an interruption
    (KeyboardInterrupt) leaves this function early, with every finished cell already stored.
    """
    return _Job(plan, command, reporter, bench, on_cell).run()


class _Job:
    def __init__(
        self,
        plan: JobPlan,
        command: str,
        reporter: Reporter,
        bench: Workbench,
        on_cell: Callable[[Path], None] | None = None,
    ) -> None:
        self.plan, self.command, self.reporter, self.bench = plan, command, reporter, bench
        self.on_cell = on_cell
        self.store = Store(plan.results)
        self.engine = _engine(plan)
        self.entries: list[dict[str, Any]] = []
        self.attempts: dict[str, int] = {}  # complete attempts of each cell when the job began

    def run(self) -> list[dict[str, Any]]:
        plan, force = self.plan, self.plan.config.force
        _initial_threads()
        todo_base = self._settle(plan.baseline, force=False)
        todo_arm = self._settle(plan.cells, force=force)
        _set_threads(plan)
        if todo_base:
            self._run_arm(todo_base, baseline=True, wait=False)
        if todo_arm:
            self._run_arm(todo_arm, baseline=not plan.accels, wait=True)
        order = {spec.ref.path: i for i, spec in enumerate((*plan.baseline, *plan.cells))}
        return sorted(self.entries, key=lambda entry: order[entry["path"]])

    def _settle(self, specs: Iterable[CellSpec], *, force: bool) -> list[CellSpec]:
        """Enter the cells that are complete already; return the others."""
        todo = []
        for spec in specs:
            self.attempts[spec.ref.path] = len(self.store.attempts(spec.ref))
            if not force and self.attempts[spec.ref.path]:
                self._enter(spec, "complete", reused=True)
                self.reporter.end_cell(f"= {_words(spec)}: complete, nothing to do", spec.ref.path, news=False)
            else:
                todo.append(spec)
        return todo

    def _run_arm(self, specs: list[CellSpec], *, baseline: bool, wait: bool) -> None:
        """Make the arm once and compute its cells on it; if it cannot be made, all of them fail."""
        started = _now()
        try:
            self.reporter.begin_cell(f"{self.plan.info.label} {specs[0].ref.accel}: preparing", 1)
            with self._deadline(specs, started):
                arm = self._baseline_arm() if baseline else self._accelerated_arm()
        except Exception as error:  # the cell boundary: whatever went wrong is put on record
            for spec in specs:
                self._failed(spec, error, started)
            return
        for spec in specs:
            self._run_cell(spec, arm, wait=wait)

    def _run_cell(self, spec: CellSpec, arm: Arm, *, wait: bool) -> None:
        started, start = _now(), time.perf_counter()
        try:
            if wait and self.store.is_locked(spec.ref):
                self.reporter.say(f"  {_words(spec)}: another process is computing it; waiting")
            with self.store.lock(spec.ref, wait=wait) as mine:
                if not mine:
                    self._enter(spec, "elsewhere")
                    self.reporter.end_cell(f"~ {_words(spec)}: another process is computing it", spec.ref.path)
                    return
                if len(self.store.attempts(spec.ref)) > self.attempts[spec.ref.path]:
                    self._enter(spec, "complete", reused=True)
                    self.reporter.end_cell(f"= {_words(spec)}: completed by another process", spec.ref.path)
                    return
                line = self._compute(spec, arm, started)
        except Exception as error:  # the cell boundary
            self._failed(spec, error, started)
            return
        self._enter(spec, "complete")
        self.reporter.end_cell(f"+ {_words(spec)}: {line} ({time.perf_counter() - start:.1f} s)", spec.ref.path)

    def _compute(self, spec: CellSpec, arm: Arm, started: str) -> str:
        config, info = self.plan.config, self.plan.info
        attempt = self.attempts[spec.ref.path] + 1
        conditions = environment(self.plan.device, self.engine.batch_tokens, self.engine.max_batch)
        chunks = self.store.chunks(spec.ref, attempt, conditions)
        reads = arm.model.cache_reads
        n_read = None if reads is None or chunks.resumed else reads.n
        with self._deadline([spec], started):
            self.reporter.begin_cell(_words(spec), cells.count_requests(spec, config, info))
            arm.model.asked = arm.model.wrote = ""  # they speak of the arm's perplexity, or of another cell
            result = cells.compute(spec, config, arm.model, self.engine, self.reporter.advance, chunks)
        content = self._describe(spec, arm, started)
        if reads is not None and reads.n == n_read:
            content["active"] = without_step(content["active"], reads.step)
        content |= {"metrics": result.metrics, "coverage": result.coverage}
        content["environment"] |= {"scored": arm.model.asked or None, "written": arm.model.wrote or None}
        content["timings"] = {**arm.timings, **result.timings}
        content["finished"] = _now()
        folder = self.store.write(spec.ref, result.records, content, attempt=attempt)
        chunks.remove()
        if self.on_cell is not None:
            self.on_cell(folder)
        scores = result.records["score"]
        valid = f"{result.coverage['n_valid']}/{result.coverage['n_records']} answered"
        mean = f", mean score {scores.mean():+.4f}" if scores.notna().any() else ""
        return f"{len(scores)} records, {valid}{mean}{_idle_words(content['active'])}"

    def _deadline(self, specs: Sequence[CellSpec], started: str) -> AbstractContextManager[None]:
        """Ends what takes longer than cell_timeout; what cannot be ended is put on record, then the process is."""

        def stuck(error: CellFailed, trace: str) -> None:
            for spec in specs:
                self._record_failure(spec, str(error), trace, started)

        return deadline(self.plan.config.cell_timeout, _words(specs[0]), stuck)

    def _failed(self, spec: CellSpec, error: Exception, started: str) -> None:
        words = redact(" ".join(explain(error, self.plan.device).split()))
        trace = "".join(traceback.format_exception(error))
        self._record_failure(spec, words, trace, started)
        self.reporter.end_cell(f"! {_words(spec)}: FAILED: {words}", spec.ref.path)

    def _record_failure(self, spec: CellSpec, words: str, trace: str, started: str) -> None:
        words, trace = redact(words), redact(trace)
        log.error("%s failed\n%s", _words(spec), trace)
        failure = self._describe(spec, None, started) | {"error": words, "traceback": trace, "finished": _now()}
        try:
            self.store.write_failure(spec.ref, failure)
        except BiaslabError as unwritable:
            log.error("the failure could not be put on record: %s", unwritable)
        self._enter(spec, "failed", error=words)

    def _enter(self, spec: CellSpec, state: str, *, reused: bool = False, error: str = "") -> None:
        self.entries.append(
            {
                **ledger_entry(spec),
                "state": state,
                "reused": reused,
                "error": error,
            }
        )

    def _describe(self, spec: CellSpec, arm: Arm | None, started: str) -> dict[str, Any]:
        """What cell.json and failure.json share."""
        config = self.plan.config
        return {
            "model": describe_model(self.plan.info),
            "accel": self._describe_accel(spec, arm),
            "active": _active(spec, arm) if arm else None,
            "benchmark": {
                "name": spec.ref.benchmark,
                "version": spec.benchmark.version,
                "config": dataclasses.asdict(spec.benchmark),
                "data_sha256": spec.identity["data"],
                "limit": config.limit,
                "categories": sorted(config.categories),
                "sample": config.sample,
                "meta": dataclasses.asdict(spec.benchmark.description()),
            },
            "decoding": dataclasses.asdict(spec.decoding),
            "prompt": dataclasses.asdict(spec.prompt),
            "seed": config.seed,
            "dtype": self.plan.dtype,
            "placement": {**dataclasses.asdict(self.plan.placement), "kernel": _kernel(arm)},
            "identity": spec.identity,
            "environment": environment(self.plan.device, self.engine.batch_tokens, self.engine.max_batch),
            "efficiency": _with_seconds(arm) if arm else {},
            "started": started,
            "command": self.command,
        }

    def _describe_accel(self, spec: CellSpec, arm: Arm | None) -> dict[str, Any]:
        is_baseline = spec.ref.accel == "none"
        steps = [] if is_baseline else _steps(self.plan)
        return {
            "label": spec.ref.accel,
            "kind": "baseline" if is_baseline else _kind(self.plan),
            "stack": len(steps) > 1,
            "steps": steps,
            "facts": [dataclasses.asdict(fact) for fact in arm.model.facts] if arm else [],
            "calibration_seed": next(
                (s["config"]["calibration"]["seed"] for s in steps if "calibration" in s["config"]), None
            ),
        }

    def _baseline_arm(self) -> Arm:
        model = self.bench.untouched(self.plan)
        start = time.perf_counter()
        efficiency = self._efficiency(model, untouched=True)
        timings = {"load_s": self.bench.load_s, "accelerate_s": 0.0, "measure_s": time.perf_counter() - start}
        return Arm("none", "baseline", model, efficiency=efficiency, timings=timings)

    def _accelerated_arm(self) -> Arm:
        from biaslab.accel.active import generated_logits, reference_logits, stack_check

        reference = self.bench.reference(self.plan)
        start = time.perf_counter()
        model = self.bench.accelerated(self.plan)
        accelerated = time.perf_counter()
        arm = Arm(self.plan.label, _kind(self.plan), model)
        arm.active = stack_check(reference, lambda: reference_logits(model), step_checks(model.facts))
        if model.cache_factory is not None and model.cache_use == GENERATED_ONLY:
            steps = step_checks(model.facts, generating=True)
            arm.active_generating = stack_check(reference, lambda: generated_logits(model), steps)
        arm.efficiency = self._efficiency(model, untouched=_kind(self.plan) == "placebo")
        arm.timings = {
            "load_s": self.bench.load_s,
            "accelerate_s": accelerated - start,
            "measure_s": time.perf_counter() - accelerated,
        }
        return arm

    def _efficiency(self, model: LoadedModel, *, untouched: bool) -> dict[str, Any]:
        from biaslab.efficiency import measure

        config, held = self.plan.config.efficiency, self.bench.held_bytes(beside=model)
        return measure(model, self.engine, config, untouched=untouched, held_bytes=held)


def _with_seconds(arm: Arm) -> dict[str, Any]:
    """What the arm costs, with the seconds it took to load and (calibration included) to accelerate."""
    return arm.efficiency | {name: arm.timings[name] for name in ("load_s", "accelerate_s")}


def _active(spec: CellSpec, arm: Arm) -> dict[str, Any] | None:
    """The active check that says whether the arm can act on this cell."""
    return arm.active_generating if spec.benchmark.generates and arm.active_generating else arm.active


def _idle_words(active: Mapping[str, Any] | None) -> str:
    """What is to be said of an arm, or steps of it, that moved no logit."""
    steps = (active or {}).get("steps", [])
    idle = [step["step"] for step in steps if step["max_logit_change"] == 0]
    if not idle:
        return ""
    whole = " (inert)" if len(idle) == len(steps) else ""
    return f"; {' and '.join(idle)} moved no logit{whole}"


def without_step(active: dict[str, Any], name: str) -> dict[str, Any]:
    """`active` in a cell whose texts were too short for step `name` to act: its cache was read unrounded alone."""
    nothing = {"max_logit_change": 0.0, "mean_logit_change": 0.0}
    steps = [s | nothing | {"unread": True} if s["step"] == name else s for s in active.get("steps", [])]
    whole = {} if any(step["max_logit_change"] for step in steps) else nothing
    return active | whole | {"steps": steps}


def step_checks(facts: Iterable[Fact], *, generating: bool = False) -> list[dict[str, Any]]:
    """What each step moved by its Fact, in order; a placebo's says nothing."""
    checks = [(fact.step, _step_check(fact, generating)) for fact in facts]
    return [{"step": step} | check for step, check in checks if check]


def _step_check(fact: Fact, generating: bool) -> dict[str, Any]:
    scored = fact.values.get("active", {})
    return dict(fact.values.get("active_generating", scored) if generating else scored)


def explain(error: Exception, device: str) -> str:
    """An error in words, and where in a user's own file; for memory that ran out, what is free and what would help."""
    if isinstance(error, BiaslabError):
        return str(error)
    words = f"{type(error).__name__}: {error}"
    if where := raised_in(error):
        words += f" ({where})"
    if not (isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in words):
        return words
    from biaslab.models.loading import free_memory

    return (
        f"out of memory ({words}); {free_memory(device) / 2**30:.1f} GiB are free on {device}: use a smaller dtype, "
        "a stronger accelerator or a larger device"
    )


def describe_model(info: ModelInfo) -> dict[str, Any]:
    """The model's part of cell.json."""
    return {
        "label": info.label,
        "source": info.source,
        "identity": info.identity,
        "architecture": info.architecture,
        "note": info.note,
        "planted_scale": info.planted.scale if info.planted else None,
        **({"made_of": info.made_of} if info.made_of else {}),
    }


def ledger_entry(spec: CellSpec) -> dict[str, Any]:
    """The cell's line of sweep.json before its state is known."""
    return {
        "key": spec.ref.key,
        "path": spec.ref.path,
        "model": spec.ref.model,
        "accel": spec.ref.accel,
        "benchmark": spec.ref.benchmark,
        "decoding": spec.decoding.mode,
        "seed": spec.identity["seed"],
    }


def _steps(plan: JobPlan) -> list[dict[str, Any]]:
    return [
        {"name": name, "family": accel.family, "kind": accel.kind, "config": dataclasses.asdict(accel)}
        for name, accel in plan.accels.items()
    ]


def _kind(plan: JobPlan) -> str:
    kinds = {accel.kind for accel in plan.accels.values()}
    if not kinds:
        return "baseline"
    return "placebo" if kinds == {"placebo"} else "accelerated"


def _engine(plan: JobPlan) -> Engine:
    from biaslab.engine.core import Engine

    settings = plan.config.engine
    return Engine(settings.batch_tokens, settings.max_batch, settings.padding_side, settings.way)


def _kernel(arm: Arm | None) -> str | None:
    """The attention kernel the module really uses."""
    return getattr(arm.model.module.config, "_attn_implementation", None) if arm else None


def _set_threads(plan: JobPlan) -> None:
    """As asked; else one for the embedded models (measured: two are slower, far slower on a busy machine)."""
    import torch

    default = 1 if plan.info.source == "embedded" else _initial_threads()
    torch.set_num_threads(plan.config.threads or default)


@cache
def _initial_threads() -> int:
    import torch

    return torch.get_num_threads()


def _words(spec: CellSpec) -> str:
    return entry_words(ledger_entry(spec))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
