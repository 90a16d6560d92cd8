"""The verbs of `python -m biaslab`: `list`, `status`, `profile` and `retry` of a sweep, `data` files of the benchmarks,
`cache` of accelerated weights.

Each returns an exit code.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biaslab.console import columns, fail, let_go_of_output
from biaslab.errors import BiaslabError, ConfigError

LINE = "  {name:18} {state:4} {text}"
OK, NO, GET, OWN = "ok", "no", "get", "own"
LEGEND = (
    "ok: runs here as it is; no: cannot run here, and why; own: needs something of yours;\n"
    "get: fetched on first use, if its site can be reached (not tried here: `python -m biaslab doctor` tries the hub)"
)


def main(argv: Sequence[str]) -> int:
    """Run the verb `argv[0]` with its arguments; 0 if whoever reads its output has seen enough."""
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        let_go_of_output()
        return 0


def _run(argv: Sequence[str]) -> int:
    try:
        return VERBS[argv[0]](argv[1:])
    except BiaslabError as error:
        fail(str(error))
        return error.exit_code


def list_choices(argv: Sequence[str]) -> int:
    """Print every model, accelerator, benchmark and experiment, and whether this machine can run it.

    Nothing is asked of the network: what must be fetched says so.
    """
    if argv:
        raise ConfigError(f"list {argv[0]}: takes no arguments")
    print(LEGEND)
    for group, describe in (
        ("model", _model),
        ("accel", _accel),
        ("benchmark", _benchmark),
        ("experiment", _experiment),
    ):
        print(f"{group}=")
        for name, path in choices(group):
            state, text = describe(name, path)
            print(LINE.format(name=name, state=state, text=text))
    return 0


def choices(group: str) -> Iterator[tuple[str, Path]]:
    """Name and file of every choice of a config group, sorted."""
    from biaslab.config import conf_dir

    for path in sorted((conf_dir() / group).glob("*.yaml")):
        yield path.stem, path


def load_choice(path: Path) -> Any:
    """The dataclass a group file stands for, with the file's values."""
    from omegaconf import OmegaConf

    from biaslab import accel, benchmarks
    from biaslab.config import ModelConfig

    content: Any = OmegaConf.load(path)
    schema = next(str(d) for d in content.pop("defaults") if str(d).startswith("/schema/")).split("@")[0]
    kind, _, name = schema.removeprefix("/schema/").partition("/")
    registries: dict[str, Mapping[str, type]] = {"accel": accel.families(), "benchmark": benchmarks.registry()}
    cls: type = registries[kind][name] if name else ModelConfig
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), content))


def _model(name: str, path: Path) -> tuple[str, str]:
    model = load_choice(path)
    if model.source == "embedded":
        from biaslab.models import embedded

        note = embedded.note(model.name)
        return OK, "embedded, works offline" + (f"; {note}" if note else "")
    if model.source == "organism":
        fields = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(model.organism))
        return OK, f"embedded models trained on first use and kept (model.organism.NAME=: {fields})"
    if model.source == "local":
        return OWN, "a folder of safetensors: model=local model.path=DIR"
    if model.source == "custom":
        return OWN, "a class of your own: model=custom model.target=package.module.Class"
    if not model.id:
        return OWN, "any causal LM of the hub: model=hub model.id=OWNER/NAME"
    if _cached(model.id):
        return OK, f"{model.id}, on this machine"
    return GET, f"{model.id}, fetched from the hub on first use"


def _cached(repo_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo_id, "config.json"), str)


def _accel(name: str, path: Path) -> tuple[str, str]:
    from biaslab.models.loading import default_device, describe_embedded

    accel = load_choice(path)
    device = default_device()
    if accel.needs_yours:
        return OWN, f"{accel.summary}: accel={name} {accel.needs_yours}"
    reason = accel.unsupported(describe_embedded("tiny_llama"), device.split(":")[0])
    return (NO, f"{accel.summary}; {reason}") if reason else (OK, accel.summary)


def _benchmark(name: str, path: Path) -> tuple[str, str]:
    from biaslab.benchmarks.sources import is_here

    benchmark = load_choice(path)
    meta = benchmark.description()
    absent = [file for file in benchmark.files if not is_here(file)]
    fetched = f"; fetched on first use from {absent[0].url}" if absent else ""
    state = GET if absent else OWN if hasattr(benchmark, "file") or hasattr(benchmark, "target") else OK
    return state, f"{meta.title}: {meta.formula}{fetched}"


def _experiment(name: str, path: Path) -> tuple[str, str]:
    comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return OK, " ".join(line for line in comments if not line.startswith("@package"))


def status(argv: Sequence[str]) -> int:
    """Print how a sweep stands (default: the newest below outputs/sweeps); 3 if a cell is not complete.

    all=true shows every cell of a long sweep; watch=SECONDS shows it again and again until it is over.
    """
    from biaslab import status as sweeps

    options = dict(word.split("=", 1) for word in argv if re.match(r"(all|watch)=", word))
    folder = sweeps.sweep_folder("status", [word for word in argv if not re.match(r"(all|watch)=", word)])
    everything, pause = options.get("all") == "true", _seconds(options.get("watch", "0"))
    while True:
        lines, states = sweeps.report(folder, everything=everything, width=columns(sys.stdout))
        print("\n".join(lines), flush=True)
        over = all(state.state in ("complete", "failed", "refused") for state in states)
        if not pause or over:
            return 0 if all(state.state == "complete" for state in states) else 3
        time.sleep(pause)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 86400:
        raise ConfigError(f"status watch={text}: give seconds between two looks, e.g. watch=10")
    return value


def retry(argv: Sequence[str]) -> int:
    """Run a sweep's line again (default: the newest sweep): what is missing or failed is computed."""
    from biaslab.__main__ import run_line
    from biaslab.retry import retry as again

    return again(argv, run_line)


def data(argv: Sequence[str]) -> int:
    """Fetch, verify or locate the files of benchmarks."""
    from biaslab.datafiles import main as run

    return run(argv)


def profile(argv: Sequence[str]) -> int:
    """Print where the time of a sweep's cells went (default: the newest sweep)."""
    from biaslab.profile import profile as run

    return run(argv)


def track(argv: Sequence[str]) -> int:
    """Hand a sweep that is on disk to the tracker."""
    from biaslab.tracking.track import track as run

    return run(argv)


def sync(argv: Sequence[str]) -> int:
    """Send written W&B runs that were not sent yet."""
    from biaslab.tracking.sync import sync as run

    return run(argv)


def dashboard(argv: Sequence[str]) -> int:
    """Make or update the project's W&B workspace and report."""
    from biaslab.tracking.dashboard import dashboard as run

    return run(argv)


def cache(argv: Sequence[str]) -> int:
    """List the cache of accelerated weights, or drop the longest unused of it."""
    from biaslab.weights import main as run

    return run(argv)


def sparseml(argv: Sequence[str]) -> int:
    """Build SparseML's own environment (`setup`), or try it (`check`)."""
    from biaslab.accel.engines import sparseml as engine

    if list(argv) == ["setup"]:
        print(f"building {engine.environment_dir()}: about 2 GB, some minutes", flush=True)
        engine.setup()
    elif list(argv) != ["check"]:
        raise ConfigError(f"sparseml {' '.join(argv)}: setup, or check")
    versions = ", ".join(f"{name} {version}" for name, version in engine.check().items())
    print(f"{engine.environment_dir()}: {versions}")
    return 0


def doctor(argv: Sequence[str]) -> int:
    """Say what works on this machine, by trying it."""
    from biaslab.doctor import doctor as run

    return run(argv)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_choices,
    "status": status,
    "profile": profile,
    "retry": retry,
    "data": data,
    "track": track,
    "sync": sync,
    "dashboard": dashboard,
    "doctor": doctor,
    "sparseml": sparseml,
    "cache": cache,
}
