"""Kill -9 at random instants of every phase of a sweep, and what is there afterwards.

    python -m tests.reliability.kills 300 docs/reliability.md [SECONDS AT MOST]

A line is run to its end, untouched: its cells are the truth. Then the same line is started again and again in
another folder and killed, half of the time at a uniformly random moment, half of the time at a random moment
within a phase drawn at random, until it ends by itself; then a new folder is begun, with or without the analysis
at the line's end. After every kill, all that was complete before must be there byte for byte, every complete cell
must hold exactly the true answers, every failure on record must be whole, a downloaded file must be whole or
absent, and a cell that was complete must not have been computed again. After every other kill, what the cache of
accelerated weights then holds is damaged in one of four ways: the line must go on to the true answers all the same.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from biaslab.results.store import read_json
from tests.cli.run import ROOT, environment
from tests.reliability.victim import PAYLOAD, PHASES

LINE = (
    "-m", "model=tiny_llama", "accel=wanda50", "benchmark=[planted_answers,planted,planted_choices]", "limit=140",
    "engine.max_batch=16", "tracker=none", "analysis.n_resamples=99", "efficiency.speed=false",
    "accel.wanda50.calibration.samples=16",
)  # fmt: skip
ANALYSED = 3  # one round in so many ends with the analysis, the longest part of the line
#: What a line with nothing left to compute does no more.
COMPUTING = frozenset(("calibrating and pruning", "cache write", "chunk write", "record write"))
FAILED = 3  # the line's exit code: planted_choices is made to fail in every arm, so that failures are written
DROPPED = "dropped from the cache of weights"
START, END = "<!-- kills: written by tests/reliability/kills.py -->", "<!-- end of kills -->"


@dataclass
class Tally:
    """What was seen. lost, changed, twice and stuck must all stay 0."""

    kills: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    changed: int = 0
    twice: int = 0
    stuck: int = 0
    finished: int = 0
    resumed_chunks: int = 0
    cells_checked: int = 0
    cache_damaged: int = 0
    damage_seen: int = 0


class Killer:
    """Starts the line through a server of forks, kills it, checks the folder."""

    def __init__(self, scratch: Path, rng: random.Random) -> None:
        self.scratch, self.rng, self.tally = scratch, rng, Tally()
        self.events, self.mark_path = scratch / "events", scratch / "mark"
        self.mark_path.write_bytes(b"\0")
        with self.mark_path.open("r+b") as file:
            self.mark = mmap.mmap(file.fileno(), 1)
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.victim"], cwd=ROOT, env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._read() == "ready"
        self.truth: dict[str, pd.DataFrame] = {}
        self.analysed = True
        self.patience = 1.0  # grows from kill to kill: on a machine that became busier the line still gets on
        self.durations: dict[bool, float] = {}

    def close(self) -> None:
        """End the server."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait(30)
        self.server.stdout.close()

    def learn(self) -> None:
        """Run the line to its end: its answers are the truth, its time the span of random kills."""
        for name, self.analysed in (("warmed", True), ("short", False), ("truth", True)):  # the first one has
            folder = self._new(name)  # the server import what is needed
            start = time.monotonic()
            self._start(folder)
            code = int(self._read())
            self.durations[self.analysed] = time.monotonic() - start
            assert code == FAILED, (folder / "log").read_text()
        self.truth = {path: pd.read_parquet(f / "records.parquet") for path, f in complete(folder).items()}
        assert len(self.truth) == 4

    def rounds(self, n_kills: int, end: float) -> None:
        """Kill until `n_kills` have landed, or until `end` on the monotonic clock."""
        while sum(self.tally.kills.values()) < n_kills and time.monotonic() < end:
            folder = self._new(f"round{self.tally.finished}")
            self.events.write_text("")
            self.analysed, self.patience = self.tally.finished % ANALYSED == 0, 1.0
            while self._round(folder):
                self.patience = min(4.0, 1.1 * self.patience)
                if sum(self.tally.kills.values()) >= n_kills or time.monotonic() >= end:
                    break
            self._finish(folder)
            shutil.rmtree(folder)
            self.tally.finished += 1

    def _round(self, folder: Path) -> bool:
        """Start the line and kill it; False when it ended before the kill."""
        before = contents(folder)
        n_events = len(self.events.read_text().splitlines())
        child = self._start(folder)
        phase = self._wait_for_instant(child, self._phases(len(complete(folder)) == len(self.truth)))
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            phase = None
        code = int(self._read())
        self._check(folder, before, n_events)
        if code == -signal.SIGKILL and phase is not None:
            self.tally.kills[PHASES[phase]] += 1
            if self.rng.random() < 0.5:
                self.tally.cache_damaged += damage_cache(folder / "outputs/accel_cache", self.rng)
            return True
        return False

    def _finish(self, folder: Path) -> None:
        """The same line, untouched: it must end, and soon."""
        before, n_events = contents(folder), len(self.events.read_text().splitlines())
        start = time.monotonic()
        self._start(folder)
        code = int(self._read())
        self._check(folder, before, n_events)
        if code != FAILED or time.monotonic() - start > 10 * self.durations[self.analysed] + 30:
            self.tally.stuck += 1
            print((folder / "log").read_text()[-2000:], file=sys.stderr)
        if set(complete(folder)) != set(self.truth):
            self.tally.lost += 1
        self.tally.resumed_chunks += sum(
            "earlier_s" in json.loads((cell / "cell.json").read_text())["timings"] for cell in complete(folder).values()
        )
        logs = (folder / "outputs" / "sweeps").rglob("*.log")
        self.tally.damage_seen += sum(path.read_text().count(DROPPED) for path in logs)
        for leftover in (
            *(folder / "outputs/results/.tmp").iterdir(),
            *(folder / "outputs/results").glob(".chunks/*"),
            *(folder / "outputs/accel_cache").glob(".*.*.*"),
        ):
            print(f"left over: {leftover}", file=sys.stderr)

    def _check(self, folder: Path, before: dict[str, bytes], n_events: int) -> None:
        after = contents(folder)
        self.tally.lost += sum(path not in after for path in before)
        self.tally.changed += sum(path in after and after[path] != old for path, old in before.items())
        was_complete = {str(Path(path).parent.relative_to("outputs/results")) for path in before}
        computed = self.events.read_text().splitlines()[n_events:]
        self.tally.twice += sum(path in was_complete for path in computed)
        cached = folder / "cache" / "payload"
        self.tally.changed += cached.is_file() and cached.read_bytes() != PAYLOAD
        for record in (folder / "outputs" / "results").glob("*/*/*/*/failure.json"):
            assert "this benchmark fails" in read_json(record)["error"]
        for path, cell in complete(folder).items():
            self.tally.cells_checked += 1
            found = pd.read_parquet(cell / "records.parquet")
            same = found.equals(self.truth[path]) and json.loads((cell / "cell.json").read_text())["attempt"] == 1
            self.tally.changed += not same

    def _phases(self, all_complete: bool) -> list[int]:
        """Phases that a line can still come to."""
        skipped = (COMPUTING if all_complete else frozenset()) | (frozenset() if self.analysed else {"analysis"})
        return [number for number, phase in enumerate(PHASES) if number and phase not in skipped]

    def _wait_for_instant(self, child: int, phases: list[int]) -> int:
        """Sleep until the moment of the kill; the phase it falls into."""
        wanted = self.rng.choice(phases) if self.rng.random() < 0.5 else None
        duration_s = self.durations[self.analysed] * self.patience
        end = time.monotonic() + self.rng.uniform(0.0, duration_s)
        if wanted is not None:
            end = time.monotonic() + 2 * duration_s
            while self.mark[0] != wanted and time.monotonic() < end and Path(f"/proc/{child}").exists():
                time.sleep(0.0002)
            end = time.monotonic() + self.rng.choice((0.0, 0.001, 0.003, 0.01, 0.05)) * self.rng.random()
        while time.monotonic() < end and Path(f"/proc/{child}").exists():
            time.sleep(0.0005)
        return self.mark[0]

    def _start(self, folder: Path) -> int:
        self.mark[0] = 0
        line = LINE if self.analysed else (*LINE, "analysis=skip")
        asked = {"folder": str(folder), "line": line, "mark": str(self.mark_path), "events": str(self.events)}
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def _new(self, name: str) -> Path:
        folder = self.scratch / name
        folder.mkdir()
        return folder


def damage_cache(root: Path, rng: random.Random) -> int:
    """Damage every entry of a cache of weights: a bit, the end, the label cut short or gone; how many there were."""
    entries = sorted(root.glob("*/weights.safetensors"))
    for weights in entries:
        kind, raw = rng.choice(("bit", "short", "json", "gone")), bytearray(weights.read_bytes())
        if kind == "bit":
            raw[-1 - rng.randrange(len(raw) // 2)] ^= 1
            weights.write_bytes(raw)
        elif kind == "short":
            weights.write_bytes(raw[: rng.randrange(len(raw))])
        elif kind == "json":
            (weights.parent / "entry.json").write_text('{"format": ')
        else:
            (weights.parent / "entry.json").unlink(missing_ok=True)
    return len(entries)


def complete(folder: Path) -> dict[str, Path]:
    """The complete cells below a sweep's folder, by path."""
    root = folder / "outputs" / "results"
    return {
        str(path.parent.relative_to(root)): path.parent
        for path in root.glob("*/*/*/*/cell.json")
        if (path.parent / "records.parquet").is_file()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Every byte of the complete cells."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for cell in complete(folder).values()
        for path in cell.iterdir()
    }


def table(tally: Tally, seconds: float) -> str:
    """The tally as Markdown."""
    total = sum(tally.kills.values())
    lines = ["| killed while | kills |", "|---|---|"]
    lines += [f"| {phase} | {tally.kills[phase]} |" for phase in PHASES if tally.kills[phase]]
    lines += [
        f"| **all** | **{total}** |",
        "",
        f"Complete cells lost: {tally.lost}. Changed, in any byte or from the true answers: {tally.changed}. "
        f"Computed again: {tally.twice}. Lines that did not go on to the end: {tally.stuck}. "
        f"The line was killed until it ended {tally.finished} times over; {tally.cells_checked} looks at a complete "
        f"cell; {tally.resumed_chunks} cells were finished from chunks of a killed process. "
        f"{tally.cache_damaged} times an entry of the cache of weights was damaged after a kill; {tally.damage_seen} "
        f"times a damaged one was met, dropped and made again. {seconds:.0f} s.",
    ]
    return "\n".join(lines)


def kill(n_kills: int, scratch: Path, seed: int = 0, at_most_s: float = float("inf")) -> tuple[Tally, float]:
    """Kill the line `n_kills` times in `scratch`; what was seen, and the seconds it took."""
    start = time.monotonic()
    killer = Killer(scratch, random.Random(seed))
    try:
        killer.learn()
        killer.rounds(n_kills, start + at_most_s)
    finally:
        killer.close()
    return killer.tally, time.monotonic() - start


def main(argv: list[str]) -> int:
    """Kill as often as asked and put the table into a document between its two marks."""
    with tempfile.TemporaryDirectory() as scratch:
        tally, seconds = kill(int(argv[0]), Path(scratch), at_most_s=float(argv[2]) if len(argv) > 2 else float("inf"))
    text = table(tally, seconds)
    print(text)
    if len(argv) > 1:
        path = Path(argv[1])
        old = path.read_text(encoding="utf-8")
        path.write_text(re.sub(f"{START}.*{END}", f"{START}\n{text}\n{END}", old, flags=re.DOTALL), encoding="utf-8")
    return int(bool(tally.lost or tally.changed or tally.twice or tally.stuck))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
