"""The verb `retry`: a sweep's own line once more, which computes what is missing or failed and nothing else."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from biaslab.console import fail
from biaslab.errors import ConfigError
from biaslab.results.ledger import read_ledger, reasons
from biaslab.status import cell_states, sweep_folder

#: Words of a line that can run code or reach outside the results. A sweep.json may be somebody else's.
RUNS_CODE = re.compile(
    r"_target_|trust_remote_code|^-{1,2}(cd|cp|cn|config)|^\+*hydra\.(?!mode\b|launcher\.(partition|account|timeout_min|"
    r"gpus_per_node|cpus_per_task|mem_gb|array_parallelism|n_jobs)=)|=custom\b|\.custom\.|searchpath",
    re.IGNORECASE,
)


def retry(argv: Sequence[str], run_line: Callable[[], int]) -> int:
    """Run the line of a sweep folder again (default: the newest); 0 at once if every cell is complete.

    run_line : runs what sys.argv holds, as if it had been typed.
    Raises ConfigError for a line that could run somebody's code: such a line must be typed by hand.
    """
    folder = sweep_folder("retry", argv)
    ledger = read_ledger(folder)
    bad = [state for state in cell_states(folder, ledger) if state.state != "complete"]
    if not bad:
        print(f"sweep {ledger['id']}: every cell is complete, nothing to retry")
        return 0
    line = typed(folder, ledger)
    told = [s.entry() for s in bad if s.state in ("failed", "refused")]
    if any([fail(line, fit=True) for line in reasons(told)]):
        fail(f"each reason in full: python -m biaslab status {folder} | cat")
    if waiting := sum(s.state == "waiting" for s in bad):
        fail(f"note: {waiting} cells wait for jobs that are still in the queue, see python -m biaslab status {folder}")
    print(f"{len(bad)} of {len(ledger['cells'])} cells to run: {shlex.join(['python', '-m', 'biaslab', *line])}")
    sys.argv = [sys.argv[0], *line]
    return run_line()


def typed(folder: Path, ledger: dict[str, Any]) -> list[str]:
    """The words of the ledger's line, with `outputs=` where the folder is not the one the line would write to."""
    words = ledger.get("argv")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{folder / 'sweep.json'}: holds no line to run again")
    risky = next((word for word in words if RUNS_CODE.search(word)), None)
    if risky is not None:
        raise ConfigError(
            f"retry: {risky!r} of this sweep's line can run code; read the line, and type it yourself if you "
            f"trust it: {shlex.join(['python', '-m', 'biaslab', *words])}"
        )
    outputs = (folder / str(ledger["results"])).resolve().parent
    kept = [word for word in words if not word.startswith("outputs=")]
    if outputs == Path("outputs").resolve():
        return kept
    return [*kept, f"outputs={_quoted(str(outputs))}"]


def _quoted(path: str) -> str:
    """A path as Hydra reads a value: quoted where its grammar needs it."""
    return path if re.fullmatch(r"[\w./-]+", path) else "'" + path.replace("\\", "\\\\").replace("'", "\\'") + "'"
