"""A process that has imported everything once and forks a sweep per request: hundreds of kills in minutes.

Each fork runs `python -m biaslab ...` in its own folder and marks, in memory shared with the killer, what it
is doing at every moment. The marks wrap the project's own functions; nothing in the project knows of them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import random
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

#: What a kill can hit. The order is the mark's number.
PHASES = (
    "start, or between the others", "planning", "loading", "calibrating and pruning", "measuring", "answering",
    "chunk write", "record write", "failure write", "claim", "ledger", "analysis", "download", "cache write",
)  # fmt: skip


#: Libraries of which a sweep imports parts as it goes.
LIBRARIES = frozenset(
    "transformers hydra omegaconf analysis biaslab hqq pingouin scipy pandas pyarrow jinja2 rich statsmodels".split()
)
#: What every fork downloads before its line, slowly, from no network.
PAYLOAD = random.Random(0).randbytes(1 << 21)


def warm_up() -> None:
    """Import what a sweep imports, so that a fork starts at once."""
    import hqq.core.quantize  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import pingouin  # noqa: F401
    import torch
    import transformers  # noqa: F401

    from biaslab.models.loading import describe_embedded, load

    torch.set_num_threads(1)
    load(describe_embedded("tiny_llama"), device="cpu", dtype="float32")


def mark_functions(mark: mmap.mmap, events: Path) -> None:
    """Have every phase of this process write its number while it runs, and the computing of a cell a line."""
    from biaslab import cell, job, sweep
    from biaslab.accel.cache import WeightCache
    from biaslab.errors import CellFailed
    from biaslab.models import loading
    from biaslab.results import chunks, claims, store

    def watch(owner: Any, name: str, phase: str) -> None:
        inner, number = getattr(owner, name), PHASES.index(phase)

        def marked(*args: Any, **kwargs: Any) -> Any:
            before, mark[0] = mark[0], number
            try:
                return inner(*args, **kwargs)
            finally:
                mark[0] = before

        setattr(owner, name, marked)

    watch(sweep, "_start", "planning")
    watch(sweep.Sweep, "write", "ledger")
    watch(sweep, "_write_job_ledger", "ledger")
    watch(sweep.Sweep, "collect", "ledger")
    watch(sweep, "_analyse", "analysis")
    watch(loading, "load", "loading")
    watch(import_module("biaslab.accel.cache"), "applied", "calibrating and pruning")
    watch(WeightCache, "_keep", "cache write")
    watch(job._Job, "_efficiency", "measuring")
    watch(cell, "compute", "answering")
    watch(chunks.Chunks, "add", "chunk write")
    watch(store.Store, "write", "record write")
    watch(store.Store, "write_failure", "failure write")
    watch(claims._Claim, "take", "claim")
    watch(claims._Claim, "release", "claim")
    watch(sys.modules[__name__], "download", "download")
    compute = cell.compute

    def logged(spec: cell.CellSpec, *args: Any, **kwargs: Any) -> Any:
        if spec.ref.benchmark == "planted_choices":
            raise CellFailed("this benchmark fails in every arm, so that failures are written")
        with events.open("a", encoding="utf-8") as file:
            file.write(spec.ref.path + "\n")
        return compute(spec, *args, **kwargs)

    cell.compute = logged  # type: ignore[assignment]
    cell.CHUNK = 64  # so that a cell of seconds has chunks


def download(cache: Path) -> Path:
    """Fetch the payload into a cache as a benchmark's file is fetched."""
    from biaslab.benchmarks import sources

    def slow(_url: str, part: Path, _name: str) -> None:
        done = part.stat().st_size if part.is_file() else 0
        with part.open("ab") as out:
            for start in range(done, len(PAYLOAD), 1 << 16):
                out.write(PAYLOAD[start : start + (1 << 16)])
                out.flush()
                time.sleep(0.001)

    sources.fetch = slow
    os.environ["BIASLAB_CACHE_DIR"] = str(cache)
    sha256 = hashlib.sha256(PAYLOAD).hexdigest()
    return sources.locate(sources.PinnedFile("payload", "nobody/nothing", "0" * 40, "payload", sha256, "none"))


def run(folder: Path, line: Sequence[str], mark: mmap.mmap, events: Path) -> None:
    """In a fork: be `python -m biaslab LINE` in `folder`, and end."""
    code = 70
    try:
        os.chdir(folder)
        out = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        mark_functions(mark, events)
        sys.argv = ["biaslab", *line]
        from biaslab.__main__ import run_line

        download(folder / "cache")
        code = run_line()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        (folder / "modules").write_text("\n".join(sys.modules))
        os._exit(code)


def import_what_was_needed(found: Path) -> None:
    """Import what a sweep that ended by itself had imported on its way, so that the next fork need not."""
    if found.is_file():
        for name in found.read_text().splitlines():
            if name.split(".")[0] in LIBRARIES:
                with suppress(Exception):
                    import_module(name)
        found.unlink()


def serve() -> None:
    """Fork a sweep for every line of JSON on standard input; say its number, and later its exit status."""
    warnings.simplefilter("ignore")
    warm_up()
    print("ready", flush=True)
    for text in sys.stdin:
        asked = json.loads(text)
        with open(asked["mark"], "r+b") as file:
            mark = mmap.mmap(file.fileno(), 1)
        child = os.fork()
        if child == 0:
            run(Path(asked["folder"]), asked["line"], mark, Path(asked["events"]))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        import_what_was_needed(Path(asked["folder"]) / "modules")
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
