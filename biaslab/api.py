"""Sweeps from Python: `biaslab.run(...)` is the line, and what comes of it is at hand as data frames.

The sweep runs in a process of its own, exactly as the same line on a terminal does: same store, same resuming, same
report. So a kernel survives whatever happens to it (no memory left, a hung driver), gets its memory back, and may
have its own Hydra. Interrupting the kernel interrupts the sweep, which keeps what is complete.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biaslab.errors import BiaslabError, ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.results import Results

#: What needs no quotes in an override.
PLAIN = re.compile(r"[A-Za-z0-9_./:@+-]+")
FLAGS = ("-m", "--multirun")
COUNTED = re.compile(r"\[(\d+)/(\d+)\] (.*)")
COLUMNS = ("model", "accel", "benchmark", "decoding", "seed", "state", "reused", "error", "key", "path")


def run(*words: str, progress: bool = True, **settings: Any) -> SweepResult:
    """Run a sweep as `python -m biaslab WORDS...` does, and return what came of it.

    words : overrides as on the line, "model=tiny_llama", "accel=hqq4,wanda50", "prompt.chat=true".
    settings : the same as values. A list is swept over; a tuple is one value that is a list, as a stack of
        accelerators is: accel=["hqq4", ("wanda50", "hqq4")]. Several benchmarks are asked of each arm either way.
        Keys with dots go through a mapping: **{"accel.hqq4.group_size": [32, 64]}.
    progress : a bar in a notebook, a line for each cell elsewhere.

    Cells that failed are in `failed` of the result, which is no exception: the others are there.

    Raises ConfigError, with the line's own words, for a request that is wrong; BiaslabError where the process ended
    without a result; KeyboardInterrupt when interrupted, with every complete cell kept: run the same again.

    >>> import biaslab
    >>> biaslab.run("model=tiny_lama")
    Traceback (most recent call last):
    biaslab.errors.ConfigError: model=tiny_lama: no such choice (did you mean tiny_llama?); choose one of ...
    """
    line = line_of(words, settings)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.json"
        code, log = _in_a_process(line, file, _shown() if progress else _Silent())
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    said = [text.removeprefix("biaslab: ") for text in log if text.startswith("biaslab: ")]
    if code == ConfigError.exit_code and not known:
        raise ConfigError(said[-1] if said else _last(log))
    if code == 130:
        raise BiaslabError(said[-1] if said else "interrupted: the same call goes on from there")
    if code not in (0, 3) or (code == 3 and not known):
        raise BiaslabError(said[-1] if said else _ended(code, log))
    return SweepResult(line=line, exit_code=code, log=log, **{k: known.get(k) for k in ("sweep", "report", "analysis")})


@dataclass(frozen=True)
class SweepResult:
    """What came of a sweep.

    line : the words that were run. exit_code : 0 done, 3 some cells failed or are missing. log : what was printed.
    sweep : folder of its ledger, None after a dry run. report : the page, None where there is none.
    """

    line: list[str]
    exit_code: int
    log: list[str] = field(repr=False)
    sweep: Any = None
    report: Any = None
    analysis: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        there = self.report is not None and Path(self.report).is_file()
        object.__setattr__(self, "sweep", None if self.sweep is None else Path(self.sweep))
        object.__setattr__(self, "report", Path(self.report) if there else None)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a cell that was asked for: its labels, its state ("complete", "failed", ...), and its error."""
        import pandas as pd

        entries = [] if self.sweep is None else json.loads((self.sweep / "sweep.json").read_text("utf-8"))["cells"]
        return pd.DataFrame(entries, columns=list(COLUMNS))

    @property
    def failed(self) -> pd.DataFrame:
        """The cells that are not there, and why; empty when all are."""
        return self.cells[self.cells["state"] != "complete"][["model", "accel", "benchmark", "state", "error"]]

    @cached_property
    def results(self) -> Results:
        """The results through `analysis.load`: frames, tables, figures, all with the settings of this sweep."""
        from analysis.results import load
        from analysis.settings import Margins, Settings

        if self.sweep is None:
            raise BiaslabError("a dry run has no results")
        values = dict(self.analysis or {})
        settings = Settings(**{**values, "margins": Margins(**values.get("margins", {}))})
        return load(self.sweep, settings=settings)

    @property
    def records(self) -> pd.DataFrame:
        """One row an item and repeat of each complete cell, with its labels, score, outcome and answer."""
        return self.results.records

    @property
    def verdicts(self) -> pd.DataFrame:
        """One row an accelerated cell: what its shift and its margin make of it."""
        return self.results.verdicts

    def __repr__(self) -> str:
        """What is missing, the answer, the verdicts: as the line prints them."""
        from biaslab.console import visible

        return "\n".join(visible(text) for text in self._tail())

    def _repr_html_(self) -> str:
        """For notebooks: what failed, then the results' own page; all text escaped."""
        from html import escape

        from analysis.results import frame_html

        if self.sweep is None or not (self.cells["state"] == "complete").any():
            return f"<pre>{escape(repr(self))}</pre>"
        failed = self.failed
        head = f"<p><b>{len(failed)} of {len(self.cells)} cells are not there</b></p>{frame_html(failed)}"
        report = f"<p>Report: <code>{escape(str(self.report))}</code></p>" if self.report is not None else ""
        return f"{head if len(failed) else ''}{self.results._repr_html_()}{report}"

    def _tail(self) -> Sequence[str]:
        """The log without the lines of single cells."""
        return [text for text in self.log if not COUNTED.match(text)]


def line_of(words: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """The words of the line, with -m where one of them sweeps.

    Raises ConfigError for a word that is no override.

    >>> line_of(["seed=1"], {"accel": ["hqq4", ("wanda50", "hqq4")], "benchmark": ["planted", "planted_choices"]})
    ['-m', 'seed=1', 'accel=hqq4,[wanda50,hqq4]', 'benchmark=[planted,planted_choices]']
    >>> line_of([], {"model": "local", "model.path": "my models/a", "limit": None, "prompt.chat": True})
    ['model=local', "model.path='my models/a'", 'limit=null', 'prompt.chat=true']
    """
    flags = [word for word in words if word in FLAGS]
    overrides = [word for word in words if word not in FLAGS]
    for word in overrides:
        if not isinstance(word, str) or "=" not in word or word.startswith("-"):
            raise ConfigError(f"{word}: write group=choice or key=value, as on the line; verbs and flags are its own")
    overrides += [f"{key}={_swept(key, value)}" for key, value in settings.items()]
    return ["-m", *overrides] if flags or _any_sweeps(overrides) else overrides


def _swept(key: str, value: Any) -> str:
    """A value as an override: a list is a sweep, but for benchmarks."""
    if key == "benchmark" and isinstance(value, list):
        value = tuple(value)
    if isinstance(value, list):
        if not value:
            raise ConfigError(f"{key}=[]: a list is swept over; give at least one value, or () for an empty one")
        return ",".join(_word(x) for x in value)
    return _word(value)


def _word(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{','.join(_word(x) for x in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_word(k)}:{_word(v)}" for k, v in value.items()) + "}"
    text = str(value)
    if PLAIN.fullmatch(text):
        return text
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # Hydra's grammar: a quote, and backslashes before one, are escaped
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"


def _any_sweeps(overrides: Sequence[str]) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from biaslab.messages import one_line

    try:
        return any(o.is_sweep_override() for o in OverridesParser.create().parse_overrides(list(overrides)))
    except HydraException as error:
        raise ConfigError(one_line(error)) from error


class _Silent:
    """Shows nothing."""

    def line(self, text: str) -> None:
        """Take in one line of the sweep."""

    def end(self) -> None:
        """The sweep is over."""


class _Lines(_Silent):
    """A line for each cell, and for a job that was lost."""

    def line(self, text: str) -> None:
        if COUNTED.match(text) or text.startswith("!"):
            print(text, flush=True)


class _Bar(_Silent):
    """One bar that moves, in a notebook's output; the newest line beneath, escaped."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self.html, self.done, self.total, self.text = HTML, 0, 1, "starting"
        self.handle = display(HTML(self._drawn()), display_id=True)

    def line(self, text: str) -> None:
        if (found := COUNTED.match(text)) is not None:
            self.done, self.total, self.text = int(found[1]), int(found[2]), found[3]
            self.handle.update(self.html(self._drawn()))

    def end(self) -> None:
        self.text = f"{self.done} of {self.total} cells" if self.done else "nothing to compute"
        self.handle.update(self.html(self._drawn()))

    def _drawn(self) -> str:
        from html import escape

        return f'<progress value="{self.done}" max="{self.total}"></progress> {escape(self.text)}'


def _shown() -> _Silent:
    """A bar in a notebook, lines elsewhere."""
    shell = sys.modules.get("IPython")
    kernel = shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
    return _Bar() if kernel else _Lines()


def _in_a_process(line: Sequence[str], file: Path, shown: _Silent) -> tuple[int, list[str]]:
    """Exit code and printed lines of the line in a process of its own.

    In a session of its own, so that an interruption reaches it once, from here.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "biaslab.child", str(file), *line],
        stdin=subprocess.PIPE,  # closed with this process: then the child ends as well
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    log: list[str] = []
    try:
        for text in process.stdout:
            log.append(text.rstrip("\n"))
            shown.line(log[-1])
        return process.wait(), log
    except BaseException:
        _end(process)
        raise
    finally:
        shown.end()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _end(process: subprocess.Popen[str]) -> None:
    """Interrupt it and wait until it has written down what is complete; a second interruption kills it."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate()  # reads on, so that it cannot wait for us
    except BaseException:
        process.kill()
        raise


def _environment() -> dict[str, str]:
    """As of this process, but for a notebook's plotting backend; with the folder of a biaslab that is not installed."""
    import site

    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    root = str(Path(__file__).resolve().parents[1])
    if root not in site.getsitepackages():
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
    return env | {"PYTHONIOENCODING": "utf-8"}


def _last(log: Sequence[str]) -> str:
    return next((text.strip() for text in reversed(log) if text.strip()), "the line ended without a word")


def _ended(code: int, log: Sequence[str]) -> str:
    if code < 0:
        return (
            f"the sweep's process was ended by {signal.Signals(-code).name} (no memory left?); what is complete stays, "
            "and the same call goes on from there"
        )
    return _last(log)
